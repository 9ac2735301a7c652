"""`attach` and `selection.dataset` with every trainer of TRL, on models of two random layers."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from transformers import LlamaForSequenceClassification

from itl_hf import HiddenStates, Selector
from itl_hf.training import SelectionTrainerMixin, attach, picks_of
from tests.training import tiny
from tests.worlds import script

trl = pytest.importorskip("trl")

NUM_ROWS = 20
PICKS = [11, 4, 15, 9, 6, 5]
PROMPTS = [f"row{row} the a of" for row in range(NUM_ROWS)]
CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model: some trainers read a second one from it, as reference."""
    path = tmp_path_factory.mktemp("model")
    tiny.model().merge_and_unload().save_pretrained(path)
    chat_tokenizer().save_pretrained(path)
    return str(path)


def chat_tokenizer():
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def turns(role, text):
    return [{"role": role, "content": text}]


def rows(kind):
    columns = {
        "prompt": {"prompt": PROMPTS},
        "preference": {"prompt": PROMPTS, "chosen": [" a to"] * NUM_ROWS, "rejected": [" of the"] * NUM_ROWS},
        "preference without prompt": {
            "chosen": [f"{prompt} a to" for prompt in PROMPTS],
            "rejected": [f"{prompt} to the" for prompt in PROMPTS],
        },
        "preference in messages": {
            "chosen": [turns("user", prompt) + turns("assistant", "a to") for prompt in PROMPTS],
            "rejected": [turns("user", prompt) + turns("assistant", "of the") for prompt in PROMPTS],
        },
        "unpaired": {"prompt": PROMPTS, "completion": [" a to"] * NUM_ROWS, "label": [True, False] * (NUM_ROWS // 2)},
        "completion": {"prompt": PROMPTS, "completion": [" a to"] * NUM_ROWS},
        "messages": {"messages": [turns("user", prompt) + turns("assistant", "a to") for prompt in PROMPTS]},
    }
    return Dataset.from_dict(columns[kind])


def lengths(completions, **columns):
    return [float(len(completion)) for completion in completions]


def build(name, folder, dataset, tmp_path, **changes):
    if name == "Distillation" and not hasattr(trl, "DistillationTrainer"):
        pytest.skip("this version of TRL has the trainer as an experiment, with other rows")
    module = trl if hasattr(trl, f"{name}Trainer") else importlib.import_module(f"trl.experimental.{name.lower()}")
    trainer_class, config_class = (getattr(module, f"{name}{kind}") for kind in ("Trainer", "Config"))
    defaults = {
        "GRPO": {"num_generations": 2, "max_completion_length": 3},
        "RLOO": {"num_generations": 2, "max_completion_length": 3},
        "Distillation": {"max_completion_length": 3},
        "GKD": {"max_new_tokens": 3},
    }
    arguments = {
        "GRPO": {"reward_funcs": lengths},
        "RLOO": {"reward_funcs": lengths},
        "Distillation": {"teacher_model": folder},
        "GKD": {"teacher_model": folder},
    }
    model = folder
    if name == "Reward":
        model = LlamaForSequenceClassification.from_pretrained(folder, num_labels=1)
    config = tiny.arguments(
        tmp_path, config_class, **{"bf16": False, "gradient_checkpointing": False, **defaults.get(name, {}), **changes}
    )
    trainer = trainer_class(
        model=model, args=config, train_dataset=dataset, processing_class=chat_tokenizer(), **arguments.get(name, {})
    )
    trainer.data_collator = Recorder(trainer.data_collator)
    return trainer


class Recorder:
    """A collator that records the rows of the pool that it gets, and how they are laid out in batches."""

    def __init__(self, collate):
        self.collate, self.batches = collate, []

    def __call__(self, features):
        self.batches.append([row_of(feature) for feature in features])
        return self.collate(features)

    @property
    def rows(self):
        return [row for batch in self.batches for row in batch]


def row_of(feature):
    """The row of the pool that a feature was made from: the first word of it is `row11`."""
    values = [value for name, value in feature.items() if name.endswith("_ids") or name == "prompt"]
    values += [feature["messages"][0]["content"]] if "messages" in feature else []
    for value in values:
        tokens = tiny.tokenizer()(value)["input_ids"] if isinstance(value, str) else value
        if tokens[0] >= tiny.FIRST:
            return tokens[0] - tiny.FIRST
    raise AssertionError(feature)


def selection():
    return SimpleNamespace(indices=np.array(PICKS), pool_size=NUM_ROWS)


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


#: Trainer, rows, changes of its arguments.
CASES = [
    ("SFT", "completion", {"padding_free": True, "max_length": None}),
    slow("DPO", "preference", {}),
    ("DPO", "preference without prompt", {}),
    ("DPO", "preference in messages", {}),
    slow("Reward", "preference", {}),
    ("Reward", "preference without prompt", {}),
    ("KTO", "unpaired", {"loss_type": "apo_zero_unpaired"}),
    ("GRPO", "prompt", {}),
    ("RLOO", "prompt", {}),
    ("Distillation", "prompt", {}),
    ("GKD", "messages", {}),
    slow("CPO", "preference", {}),
    slow("ORPO", "preference", {}),
]
REPEATS = {"GRPO": 2, "RLOO": 2}


@pytest.mark.parametrize(("name", "kind", "changes"), CASES)
def test_attach_trains_on_exactly_the_picks(name, kind, changes, folder, tmp_path):
    trainer = build(name, folder, rows(kind), tmp_path, **changes)
    tiny.without_warnings(attach, trainer, selection(), order="gain").train()
    assert trainer.data_collator.rows == np.repeat(PICKS, REPEATS.get(name, 1)).tolist()


@pytest.mark.parametrize(
    ("name", "kind", "changes"),
    [
        ("DPO", "preference without prompt", {}),
        ("KTO", "unpaired", {}),
        ("GRPO", "prompt", {}),
        slow("SFT", "completion", {"padding_free": True, "max_length": None}),
        slow("DPO", "preference in messages", {}),
        slow("Reward", "preference without prompt", {}),
        slow("RLOO", "prompt", {}),
        slow("Distillation", "prompt", {}),
        slow("GKD", "messages", {}),
    ],
)
def test_the_dataset_of_a_selection_is_what_a_trainer_takes(name, kind, changes, folder, tmp_path):
    embedder = HiddenStates(tiny.model(), tokenizer=chat_tokenizer(), layer=2)
    picks = Selector(embedder).select(rows(kind), ["row3 the a", "row7 of of"], 4)
    trainer = build(name, folder, picks.dataset, tmp_path, **changes)
    trainer.train()
    assert sorted(set(trainer.data_collator.rows)) == sorted(picks.indices.tolist())


def test_the_kl_term_of_kto_needs_its_own_order(folder, tmp_path):
    trainer = build("KTO", folder, rows("unpaired"), tmp_path)
    with pytest.raises(TypeError, match=r"KL term.*train_dataset=selection\.dataset.*apo_zero_unpaired"):
        attach(trainer, selection())


@pytest.mark.parametrize("name", ["GRPO", pytest.param("RLOO", marks=pytest.mark.slow)])
def test_groups_and_steps_that_share_answers_have_the_same_prompts(name, folder, tmp_path):
    changes = {"gradient_accumulation_steps": 2, "num_iterations": 2, "per_device_train_batch_size": 4}
    plain = build(name, folder, rows("prompt"), tmp_path, **changes)
    own_pattern = list(plain._get_train_sampler())
    trainer = build(name, folder, rows("prompt").select(range(8)), tmp_path, **changes, num_train_epochs=2)
    attach(trainer, [7, 2, 5, 0], order="shuffled", seed=3).train()
    batches = trainer.data_collator.batches
    # Eight places in each batch, two for each of four prompts; two steps and two iterations share its answers.
    assert [len(batch) for batch in batches] == [8] * len(batches)
    first, second = batches[: len(batches) // 2], batches[len(batches) // 2 :]
    for epoch in (first, second):
        assert len(epoch) == 4
        assert all(batch == epoch[0] for batch in epoch)
        assert epoch[0][::2] == epoch[0][1::2]
        assert sorted(epoch[0][::2]) == [0, 2, 5, 7]
    assert first[0] != second[0]
    assert pattern_of(own_pattern[:32]) == pattern_of([row for batch in first for row in batch])


def pattern_of(rows):
    """The rows numbered in the order of their first appearance."""
    return np.unique([rows.index(row) for row in rows], return_inverse=True)[1].tolist()


@pytest.mark.slow
def test_two_processes_share_each_batch_of_prompts(tmp_path):
    script("tests.training.two_processes_grpo", tmp_path)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    # Four prompts at once, two on each process, in two steps that share their answers.
    assert first == [[11, 11, 4, 4]] * 2 + [[6, 6, 5, 5]] * 2
    assert second == [[15, 15, 9, 9]] * 2 + [[1, 1, 2, 2]] * 2


def test_picks_that_do_not_fill_a_batch_of_prompts(folder, tmp_path):
    def fresh():
        return build("GRPO", folder, rows("prompt"), tmp_path, per_device_train_batch_size=8)  # 4 prompts

    trainer = fresh()
    with pytest.warns(UserWarning, match="last batch of prompts is filled up with 2 that were trained on already"):
        attach(trainer, selection())
    trainer.train()
    assert trainer.data_collator.rows[::2] == [*PICKS, *PICKS[:2]]
    trainer = tiny.without_warnings(attach, fresh(), selection(), remainder="drop")
    trainer.train()
    assert trainer.data_collator.rows[::2] == PICKS[:4]


def test_active_rounds_pick_prompts_for_grpo(folder, tmp_path):
    trainer = build("GRPO", folder, rows("prompt"), tmp_path, num_train_epochs=2)
    selector = Selector(tiny.embedder(trainer.model))
    tiny.without_warnings(attach, trainer, selector, targets=tiny.TARGETS, examples_per_round=4).train()
    rounds = picks_of(trainer)
    assert len({*rounds[0], *rounds[1]}) == 8
    assert trainer.data_collator.rows == np.repeat(np.concatenate(rounds), 2).tolist()


def test_a_resumed_run_of_grpo_trains_on_the_same_prompts(folder, tmp_path):
    def fresh():
        changes = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 4}
        return attach(build("GRPO", folder, rows("prompt"), tmp_path, **changes), selection(), order="shuffled")

    whole, resumed = fresh(), fresh()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.data_collator.rows == whole.data_collator.rows[8:]


class SelectionSFTTrainer(SelectionTrainerMixin, trl.SFTTrainer):
    pass


def packed(tmp_path, dataset, **options):
    # "wrapped": the other strategy needs an attention kernel that a CPU does not have.
    changes = {"packing": True, "packing_strategy": "wrapped", "max_length": 10, "bf16": False}
    return SelectionSFTTrainer(
        model=tiny.model(),
        args=tiny.arguments(tmp_path, trl.SFTConfig, **changes),
        train_dataset=dataset,
        processing_class=tiny.tokenizer(),
        **options,
    )


@pytest.mark.parametrize("selection_rows", [selection(), PICKS])
def test_packs_hold_exactly_the_picks(selection_rows, tmp_path):
    trainer = packed(tmp_path, rows("completion"), selection=selection_rows)
    tokens = [token for pack in trainer.train_dataset["input_ids"] for token in pack]
    row_tokens = tiny.tokenizer()([f"{prompt} a to<eos>" for prompt in PROMPTS])["input_ids"]
    assert tokens == [token for row in PICKS for token in row_tokens[row]]
    trainer.train()


def test_what_packing_cannot_respect_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot change between epochs: pass a selection"):
        packed(tmp_path, rows("completion"), selection=Selector(tiny.embedder(tiny.model())))
    with pytest.raises(ValueError, match="leave out order"):
        packed(tmp_path, rows("completion"), selection=PICKS, selection_options={"order": "shuffled"})
    with pytest.raises(ValueError, match="pool of 20 rows, but the trainer's train_dataset has 12"):
        packed(tmp_path, rows("completion").select(range(12)), selection=selection())
    with pytest.raises(ValueError, match=r"must be a datasets\.Dataset, not list"):
        packed(tmp_path, [{"text": "a"}], selection=PICKS)
