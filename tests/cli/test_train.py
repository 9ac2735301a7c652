"""`itl-hf train`: TRL's arguments and ours, what is trained on, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import sys
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from itl_hf import Selection
from itl_hf.cli import main as command_line
from itl_hf.cli import train as module
from itl_hf.cli import train_selection
from itl_hf.cli.train_arguments import SelectionArguments, parse
from itl_hf.embedding.embedders.hidden_states import HiddenStates
from itl_hf.training import picks_of
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer
from tests.worlds import script

trl = pytest.importorskip("trl")

SETTINGS = {
    "layer": 1,
    "use_peft": True,
    "lora_r": 2,
    "max_length": 64,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "learning_rate": "1e-2",
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


@pytest.fixture
def config(files, tmp_path):
    """Writes a config file; returns its path."""

    def write(leave_out=(), **changes):
        given = {
            **SETTINGS,
            "model_name_or_path": str(files / "model"),
            "dataset_name": str(files / "pool.jsonl"),
            "targets": str(files / "targets.txt"),
            "num_examples": 6,
            "output_dir": str(tmp_path / "out-put"),
            **changes,
        }
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in given.items() if name not in leave_out}))
        return path

    return write


@pytest.fixture
def seen(monkeypatch):
    """The prompts that steps were taken on, in their order."""
    texts = []
    step = trl.SFTTrainer.training_step

    def recorded(trainer, model, inputs, *args, **kwargs):
        texts.extend(tiny_tokenizer().decode(row).split("yes")[0] for row in inputs["input_ids"].tolist())
        return step(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "training_step", recorded)
    return texts


def trained(path, *flags):
    return module.run(*parse(["--config", str(path), *flags]))


def pool_prompts(files):
    return [json.loads(line)["prompt"] for line in (files / "pool.jsonl").read_text().splitlines()]


def test_trains_on_the_picks_and_prepares_no_other_row(config, files, tmp_path, seen):
    trainer = trained(config(order="gain"))
    selection = Selection.load(tmp_path / "out-put" / "selection")
    prompts = pool_prompts(files)
    assert seen == [prompts[row] for row in selection.indices]
    assert len(trainer.train_dataset) == 6
    assert picks_of(trainer)[0].tolist() == selection.indices.tolist()
    assert (tmp_path / "out-put" / "adapter_model.safetensors").exists()


def test_replay_rows_are_trained_on_behind_the_picks_and_prompts_are_avoided(config, files, tmp_path, seen):
    (tmp_path / "avoid.txt").write_text(SENTENCES[1])
    trainer = trained(config(order="gain", replay_share=0.25, avoid=str(tmp_path / "avoid.txt"), avoid_weight=2))
    selection = Selection.load(tmp_path / "out-put" / "selection")
    prompts = pool_prompts(files)
    assert len(selection) == 6
    assert seen == [prompts[row] for row in selection.training_indices]
    assert len(trainer.train_dataset) == 8
    assert selection.record.replay["rows"] == 2
    assert selection.record.acquisition_options["avoid"]["weight"] == 2


def test_flags_override_the_file_and_values_with_dashes_survive(config, run, tmp_path):
    folder = tmp_path / "two-dashes--here"
    path = config(order="gain")
    result = run("train", f"--config={path}", "--num-examples", 4, f"--output_dir={folder}", "--weight_decay=-1e-3")
    assert result.exit_code == 0, result.output
    assert len(Selection.load(folder / "selection")) == 4
    saved = torch.load(folder / "training_args.bin", weights_only=False)
    assert saved.weight_decay == -1e-3
    assert saved.output_dir == str(folder)


def test_the_embedder_is_gone_when_the_trainer_is_built(config, monkeypatch):
    models, alive = [], []
    build_embedder, build_trainer = HiddenStates.__init__, trl.SFTTrainer.__init__

    @functools.wraps(build_embedder)  # its arguments are looked up
    def noted(embedder, *args, **kwargs):
        build_embedder(embedder, *args, **kwargs)
        models.append(weakref.ref(embedder.backbone.model))

    def looked(trainer, *args, **kwargs):
        alive.extend(model() is not None for model in models)
        build_trainer(trainer, *args, **kwargs)

    monkeypatch.setattr(HiddenStates, "__init__", noted)
    monkeypatch.setattr(trl.SFTTrainer, "__init__", looked)
    gc.collect()
    trained(config())
    assert alive == [False]


def test_active_rounds(config, files, seen):
    # A row that fills the context is dropped by the trainer, and must not be a candidate.
    trainer = trained(config(("num_examples",), examples_per_round=4, num_train_epochs=2, order="gain", max_length=20))
    prompts = pool_prompts(files)
    dropped = len(prompts) - len(trainer.train_dataset)
    assert dropped > 0
    rounds = picks_of(trainer)
    assert len(rounds) == 2
    assert len({row for picks in rounds for row in picks}) == 8
    expected = [prompts[row] for picks in rounds for row in picks]
    assert len(seen) == 8
    assert all(text.startswith(prompt) for text, prompt in zip(seen, expected, strict=True))
    assert sum("itl/gain" in line for line in trainer.state.log_history) == 2


def test_a_selection_made_before(config, files, run, tmp_path, seen):
    folder = tmp_path / "selected"
    result = run("select", "--config", files / "run.yaml", "--output_dir", folder)
    assert result.exit_code == 0, result.output
    trained(config(("num_examples", "targets", "dataset_name"), selection=str(folder), order="gain"))
    assert seen == Selection.load(folder).dataset["prompt"][:]


def test_packing_trains_on_packs_of_the_picks(config, tmp_path):
    trainer = trained(config(packing=True, packing_strategy="wrapped", max_length=32))
    assert "input_ids" in trainer.train_dataset.column_names
    picked = Selection.load(tmp_path / "out-put" / "selection").dataset["prompt"]
    text = "".join(tiny_tokenizer().decode(row) for row in trainer.train_dataset["input_ids"])
    assert all(prompt in text for prompt in picked)
    assert text.count("yes") == 6
    with pytest.raises(ValueError, match="Nothing is attached"):
        picks_of(trainer)


@pytest.mark.parametrize("way", [{"num_examples": 8}, {"examples_per_round": 8}])
def test_resumes_bit_equal_without_selecting_again(config, tmp_path, monkeypatch, way):
    changes = {**way, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}
    path = config(("num_examples",) if "examples_per_round" in way else (), **changes)
    trained(path)
    whole = load_file(tmp_path / "out-put" / "adapter_model.safetensors")
    if "num_examples" in way:
        monkeypatch.setattr(train_selection, "_select", lambda *_: pytest.fail("selected again"))
    trained(path, "--resume_from_checkpoint", str(tmp_path / "out-put" / "checkpoint-3"))
    resumed = load_file(tmp_path / "out-put" / "adapter_model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("way", ["num_examples", "examples_per_round"])
def test_the_same_settings_give_the_same_weights(config, tmp_path, way):
    path = config(() if way == "num_examples" else ("num_examples",), **{way: 4})
    for seed in (1, 2):
        torch.manual_seed(seed)  # whatever was drawn before
        trained(path, "--output_dir", str(tmp_path / str(seed)))
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "12")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resuming_with_other_settings_selects_again_and_is_refused(config):
    trained(config(save_strategy="epoch"))
    with pytest.raises(FileExistsError, match=r"output_dir/selection: .*holds a selection already.*--overwrite"):
        trained(config(save_strategy="epoch", num_examples=4), "--resume_from_checkpoint", "true")
    with pytest.raises(ValueError, match=r"resum|checkpoint"):
        trained(config(save_strategy="epoch", num_examples=4), "--resume_from_checkpoint", "true", "--overwrite")


@pytest.mark.parametrize("kind", ["messages", "text"])
def test_other_kinds_of_rows(config, tmp_path, kind):
    def row(text):
        if kind == "text":
            return {"text": text}
        return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}

    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row(f"{text} {number}")) for number in range(3) for text in SENTENCES))
    trainer = trained(config(dataset_name=str(path), num_examples=4))
    assert len(trainer.train_dataset) == 4
    assert trainer.state.global_step == 2


def test_another_model_may_do_the_embedding(config, tmp_path):
    tiny_model("gpt2", seed=3).save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    trainer = trained(config(embedding_model=str(tmp_path / "other")))
    record = Selection.load(tmp_path / "out-put" / "selection").record
    own = HiddenStates(str(tmp_path / "other"), layer=1).fingerprint()
    assert record.embedder["weights"] == own["weights"]
    assert trainer.model.config.model_type == "llama"


def test_picks_that_the_trainer_drops_are_counted(config, tmp_path, seen):
    with pytest.warns(UserWarning, match=r"dropped \d+ of the 20 picks"):
        trainer = trained(config(num_examples=20, max_length=20))
    selection = Selection.load(tmp_path / "out-put" / "selection")
    kept = trainer.train_dataset["pool_index"][:]
    assert 0 < len(kept) < 20
    assert set(kept) < set(selection.indices.tolist())
    assert len(seen) == len(kept)


def test_evaluates_on_rows_of_their_own(config, files):
    trainer = trained(config(eval_strategy="epoch", eval_dataset_name=str(files / "targets.txt")))
    assert len(trainer.eval_dataset) == 2
    assert any("eval_loss" in line for line in trainer.state.log_history)


def test_a_mixture_of_datasets_is_a_pool(config, files):
    one = {"path": "json", "data_files": str(files / "pool.jsonl")}
    trainer = trained(config(("dataset_name",), datasets=[one, one], num_examples=4))
    assert picks_of(trainer)[0].max() < 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_exampels": 3}, r"train\.yaml: unknown option `num_exampels`; did you mean num_examples\?"),
        ({"examples_per_round": 3}, "give one of .*; got num_examples and examples_per_round"),
        ({"num_examples": None}, "give one of .*; got none"),
        ({"targets": None}, "--targets is missing"),
        ({"selection": "made", "num_examples": None}, "leave out --targets"),
        ({"candidates_per_round": 3}, "goes with --examples_per_round"),
        ({"num_examples": None, "examples_per_round": 3, "packing": True}, "--packing merges rows"),
        ({"num_examples": None, "examples_per_round": 3, "embedding_model": "x"}, "leave out --embedding_model"),
        ({"num_examples": 2.5}, "num_examples must be a whole number of at least 1, got 2.5"),
        ({"num_examples": 0}, "num_examples must be a whole number of at least 1, got 0"),
        ({"layer": [1, 2]}, "layer must be a text or a number"),
        ({"layer": "top"}, "'top' is no layer"),
        ({"noise_std": "low"}, "noise_std: 'low' is neither"),
        ({"order": "best"}, "--order must be one of gain, shuffled, interleaved, got 'best'"),
        ({"acquisition": "luck"}, "unknown acquisition 'luck'"),
        ({"model_name_or_path": None}, "--model_name_or_path is missing"),
        ({"dataset_name": None}, "--dataset_name is missing"),
        ({"dataset_streaming": True}, "streamed"),
        ({"eval_strategy": "epoch"}, "add --eval_dataset_name"),
        ({"num_examples": 1000}, "1000"),
    ],
)
def test_what_contradicts_itself_is_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        trained(config(**changes))


def test_rows_to_evaluate_on_that_nothing_uses_are_pointed_out(config):
    with pytest.warns(UserWarning, match="nothing is evaluated"), pytest.raises(ValueError, match="1000"):
        trained(config(eval_dataset_name="x.jsonl", num_examples=1000))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_exampels", "3"], "itl-hf: unknown option --num_exampels; did you mean num_examples?"),
        (["--config"], "itl-hf: --config needs the path of one YAML file"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--learning_rate", "fast"], "argument --learning_rate/--learning-rate: invalid float value: 'fast'"),
        (
            ["--dataset_name", "pool.jsonl", "--num_examples", "3", "--use_cpu", "--bf16", "false"],
            "--targets is missing",
        ),
    ],
)
def test_mistakes_end_in_a_sentence_and_status_2(monkeypatch, capsys, flags, message):
    monkeypatch.setattr(sys, "argv", ["itl-hf", "train", *flags])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("text", ["- a list", "key: [", "\udcff"])
def test_a_file_that_is_no_config(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"run\.yaml"):
        parse(["--config", str(path)])


def test_short_and_long_help(run):
    short = run("train", "--help")
    assert short.exit_code == 0
    assert "--num_examples" in short.output
    assert "--warmup_steps" not in short.output
    assert len(short.output.splitlines()) < 170
    everything = run("train", "--help_all")
    assert everything.exit_code == 0
    assert all(name in everything.output for name in ("--warmup_steps", "--lora_r", "--examples_per_round"))


def test_all_of_our_arguments_have_help_and_no_namesake_in_trl():
    theirs = {
        one.name
        for kind in (trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, trl.DatasetMixtureConfig)
        for one in dataclasses.fields(kind)
    }
    ours = dataclasses.fields(SelectionArguments)
    assert not theirs & {one.name for one in ours}
    assert all(one.metadata.get("help") for one in ours)


def test_two_processes(config, tmp_path):
    paths = {}
    for way in ("num_examples", "examples_per_round"):
        changes = {way: 8, "num_train_epochs": 2, "save_strategy": "epoch", "ddp_find_unused_parameters": False}
        left_out = () if way == "num_examples" else ("num_examples",)
        paths[way] = config(left_out, **changes, output_dir=str(tmp_path / way)).rename(tmp_path / f"{way}.yaml")
    script("tests.cli.train_on_two", *paths.values())
    for way, path in paths.items():
        state = json.loads((tmp_path / way / "checkpoint-4" / "trainer_state.json").read_text())
        assert state["global_step"] == 4  # 2 epochs of 8 picks in steps of 2 x 2
        steps = 8 if way == "num_examples" else 1
        alone = trained(path, "--output_dir", str(tmp_path / "alone" / way), "--max_steps", str(steps))
        assert alone.state.global_step == steps
        picked = state["stateful_callbacks"]["ItlSelectionCallback"]["selection"]
        if way == "num_examples":
            both = [Selection.load(folder / way / "selection").indices for folder in (tmp_path, tmp_path / "alone")]
            np.testing.assert_array_equal(*both)
            assert picked["num_picks"] == 8
        else:  # the first round sees the untrained model, later ones another history of steps
            assert picked["rounds"][0]["picks"] == picks_of(alone)[0].tolist()


def test_any_embedder_and_its_options(config, files, tmp_path, seen):
    changes = {"embedder": "gradients", "modules": "v_proj", "dimension": 64, "rank": 8, "labels": "predicted"}
    trained(config(("layer",), **changes, order="gain"))
    record = Selection.load(tmp_path / "out-put" / "selection").record
    assert record.embedder["embedder"] == "gradients"
    assert (record.embedder["dimension"], record.embedder["rank"]) == (64, 8)
    assert record.arguments["modules"] == "v_proj"
    with pytest.raises(ValueError, match="--layer is not an option of --embedder gradients"):
        trained(config(**changes, overwrite=True))
    with pytest.raises(ValueError, match="--embedder must be one of hidden_states, gradients, sentence_encoder"):
        trained(config(embedder="tfidf", overwrite=True))


@pytest.mark.parametrize("flags", [{}, {"load_in_4bit": True}, {"load_in_8bit": True}])
def test_features_are_those_of_the_weights_that_are_trained(tmp_path, monkeypatch, flags):
    monkeypatch.setattr(SelectionArguments, "build_embedder", lambda self, model, **options: options)
    model = trl.ModelConfig(model_name_or_path="a/model", **flags)
    training = trl.SFTConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True)
    options = train_selection.build_embedder(SelectionArguments(), training, model)
    assert options["quantization"] == (next(iter(flags)).removeprefix("load_in_") if flags else None)


def test_selection_reads_the_chat_template_that_training_uses(config, tmp_path, seen):
    template = tmp_path / "own.jinja"
    template.write_text("{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}")
    trained(config(chat_template_path=str(template)))
    own = Selection.load(tmp_path / "out-put" / "selection").record.embedder
    trained(config(overwrite=True))
    assert Selection.load(tmp_path / "out-put" / "selection").record.embedder != own


def test_what_the_picks_must_keep_to_holds_in_training_too(config, files, tmp_path, seen):
    prompts = pool_prompts(files)
    (tmp_path / "benchmark.txt").write_text("\n".join(prompts[:8]))
    options = {"exclude": str(tmp_path / "benchmark.txt"), "groups": "source", "group_shares": 0.5}
    options |= {"costs": "cost", "token_budget": 50, "standardize": "none", "target_noise_std": 0.5, "noise_std": "2.0"}
    trained(config(**options, order="gain"))
    selection = Selection.load(tmp_path / "out-put" / "selection")
    assert seen == [prompts[row] for row in selection.indices]
    assert selection.indices.min() >= 8
    assert selection.record.constraints["exclude"] == list(range(8))
    assert sum(selection.dataset["cost"][:]) <= 50
    assert max(Counter(selection.dataset["source"][:]).values()) <= 3
    assert selection.record.standardization_name == "none"
    assert (selection.record.noise_std, selection.record.target_noise_std) == (2.0, 0.5)


def test_training_stops_picking_when_little_is_left_to_learn(config, tmp_path):
    trained(config(max_steps=1))
    everything = Selection.load(tmp_path / "out-put" / "selection")
    path = config(max_steps=1, stop_gain=float(everything.gains[3]) * 1.0001, output_dir=str(tmp_path / "other"))
    trained(path)
    assert Selection.load(tmp_path / "other" / "selection").indices.tolist() == everything.indices[:3].tolist()


def test_a_dry_run_estimates_picking_and_trains_nothing(config, run, tmp_path, seen):
    result = run("train", "--config", config(), "--dry_run", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["command"], told["pool"]["rows"], told["targets"]["rows"]) == ("train", 24, 2)
    assert seen == []
    assert not (tmp_path / "out-put").exists()


def test_json_of_a_training(config, run, tmp_path):
    result = run("train", "--config", config(max_steps=1), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["output_dir"] == str(tmp_path / "out-put")
    assert told["steps"] == 1
