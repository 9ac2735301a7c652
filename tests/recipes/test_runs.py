"""Runs every recipe from its config to its result with a tiny model."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl")
pytest.importorskip("reasoning_gym")

from itl_hf import HiddenStates, Selection, Selector  # noqa: E402
from itl_hf.training import picks_of  # noqa: E402
from recipes import offline_files  # noqa: E402
from recipes.active_rounds import sft as active_rounds  # noqa: E402
from recipes.instruction_tuning import sft as instruction_tuning  # noqa: E402
from recipes.test_time import __main__ as test_time  # noqa: E402
from recipes.test_time.tuner import TestTimeTuner  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
EXISTING = REPOSITORY / "tests" / "training" / "existing_script.py"
SCRIPTS = {"instruction_tuning": instruction_tuning, "active_rounds": active_rounds}


def messages(text, role):
    return [{"role": role, "content": text}]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [
        {"prompt": messages(f"{text} {number}", "user"), "completion": messages(f"{number} it is", "assistant")}
        for number in range(6)
        for text in SENTENCES
    ]
    for name, part in (("pool", rows[:24]), ("targets", [{"prompt": row["prompt"]} for row in rows[24:28]])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    (folder / "held_out.jsonl").write_text("\n".join(map(json.dumps, rows[28:])))
    return folder


def flags(files, tmp_path, **more):
    options = {
        "model_name_or_path": files / "model",
        "dataset_name": files / "pool.jsonl",
        "targets": files / "targets.jsonl",
        "eval_dataset_name": files / "held_out.jsonl",
        "store": tmp_path / "features",
        "output_dir": tmp_path / "out",
        "layer": 1,
        "max_length": 96,
        "use_cpu": "true",
        **more,
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@pytest.mark.parametrize(("name", "more"), [("instruction_tuning", {"num_examples": 8}), ("active_rounds", {})])
def test_a_script_runs_from_its_config(files, tmp_path, name, more):
    if name == "active_rounds":
        more = {"examples_per_round": 4, "candidates_per_round": 10, "num_train_epochs": 2}
    config = REPOSITORY / "recipes" / name / "config.yaml"
    trainer = SCRIPTS[name].main(["--config", str(config), *flags(files, tmp_path, **more)])
    assert sum(map(len, picks_of(trainer))) == 8
    assert trainer.state.global_step == 2
    history = trainer.state.log_history
    losses = [line["eval_loss"] for line in history if "eval_loss" in line]
    assert len(losses) == 1 + len(picks_of(trainer))
    assert losses[-1] < losses[0]
    assert sum("itl/embedding_seconds" in line for line in history) == (2 if name == "active_rounds" else 0)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_refuses_the_options_of_another_recipe(files, tmp_path, name):
    wrong = {"instruction_tuning": {"examples_per_round": 3}, "active_rounds": {"num_examples": 3}}[name]
    with pytest.raises(SystemExit, match="this recipe selects"):
        SCRIPTS[name].main(flags(files, tmp_path, bf16="false", **wrong))


def tuner(files):
    return TestTimeTuner(str(files / "model"), lora_r=2, learning_rate=1e-2, batch_size=2, max_new_tokens=4)


def rows(files, name):
    return [json.loads(line) for line in (files / f"{name}.jsonl").read_text().splitlines()]


def test_the_adapter_is_reset_exactly(files):
    one, (prompt, *others) = tuner(files), rows(files, "pool")
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    states_while_answering = []
    answer = one._answer

    def recording_answer(row):
        states_while_answering.append({name: value.clone() for name, value in one.model.state_dict().items()})
        return answer(row)

    one._answer = recording_answer
    first = one.run(prompt, others[:6])
    after = one.model.state_dict()
    assert any(not torch.equal(before[name], states_while_answering[0][name]) for name in before)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert first.loss_after != first.loss_before
    # The result of a prompt does not depend on the prompts before it.
    one.run(others[8], others[9:])
    assert one.run(prompt, others[:6]) == first


def test_the_adapter_is_reset_after_a_failure(files, monkeypatch):
    one, (prompt, *others) = tuner(files), rows(files, "pool")
    monkeypatch.setattr(one, "_answer", lambda row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.run(prompt, others[:4])
    assert all(torch.equal(weight, one.first_weights[name]) for name, weight in one.trainable_weights.items())


def test_training_on_the_prompt_itself_lowers_its_loss(files):
    one, prompt = tuner(files), rows(files, "pool")[0]
    outcome = one.run(prompt, [prompt] * 20)
    assert outcome.loss_after < outcome.loss_before - 0.5


def test_an_error_names_a_row_whose_completion_was_cut_off(files):
    one = tuner(files)
    with pytest.raises(ValueError, match=r"nothing of its completion.*What is the sum"):
        one.run({**rows(files, "pool")[1]}, [{"prompt": messages("What is the sum" + " a" * 900, "user")}])


def settings(files, tmp_path, **changes):
    options = {
        "model_name_or_path": str(files / "model"),
        "dataset_name": str(files / "pool.jsonl"),
        "prompts": str(files / "held_out.jsonl"),
        "store": str(tmp_path / "features"),
        "output_file": str(tmp_path / "results.json"),
        "num_prompts": 3,
        "num_examples": 4,
        "batch_size": 2,
        "lora_r": 2,
        "max_new_tokens": 4,
        "max_length": 96,
    }
    return test_time.Settings(**{**options, **changes})


def test_test_time_saves_each_result_and_continues_after_an_interruption(files, tmp_path, monkeypatch):
    whole = test_time.run(settings(files, tmp_path / "whole"))
    assert len(whole) == 3
    assert all(len(set(one["picks"])) == 4 for one in whole)
    assert [one["prompt"] for one in whole] == [rows(files, "held_out")[at]["prompt"][0]["content"] for at in (0, 4, 7)]

    run, prompts_so_far = TestTimeTuner.run, []

    def run_twice_only(self, prompt, picks):
        if len(prompts_so_far) == 2:
            raise KeyboardInterrupt
        prompts_so_far.append(prompt)
        return run(self, prompt, picks)

    monkeypatch.setattr(TestTimeTuner, "run", run_twice_only)
    with pytest.raises(KeyboardInterrupt):
        test_time.run(settings(files, tmp_path))
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 2
    prompts_so_far.pop()  # one more call is allowed
    assert test_time.run(settings(files, tmp_path)) == whole
    assert len(prompts_so_far) == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["results.json"]
    with pytest.raises(KeyboardInterrupt):  # results of other settings are not reused
        test_time.run(settings(files, tmp_path, learning_rate=1e-4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_prompts": 99}, "held_out.jsonl has only 8"), ({"num_examples": 0}, "num_examples must be at least 1")],
)
def test_test_time_refuses_settings_out_of_range(files, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        test_time.run(settings(files, tmp_path, **changes))


def test_test_time_needs_answers_to_measure_by(files, tmp_path):
    with pytest.raises(ValueError, match=r"targets\.jsonl, row 0: no completion"):
        test_time.run(settings(files, tmp_path, prompts=str(files / "targets.jsonl")))


def test_offline_files_are_written_once_without_leftovers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(offline_files, "quickstart_data", lambda: calls.append(1) or small_data())
    part = offline_files.DIRECTORY / "pool-5.jsonl"
    offline_files.ensure(str(part), str(offline_files.TARGETS), "elsewhere/pool-5.jsonl", None)
    assert [json.loads(line)["text"] for line in part.read_text().splitlines()] == ["0", "5", "10", "14", "19"]
    assert sorted(path.name for path in part.parent.iterdir()) == ["pool-5.jsonl", "targets.jsonl"]
    offline_files.ensure(part)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="20 rows, not 21"):
        offline_files.ensure(offline_files.DIRECTORY / "pool-21.jsonl")


def small_data():
    from datasets import Dataset

    from recipes.quickstart.data import Data

    texts = Dataset.from_dict({"text": [str(number) for number in range(20)]})
    return Data(texts, texts.select(range(3)), texts.select(range(2)))


def diff_blocks():
    """Returns every block of lines that a README adds to a training script."""
    readmes = (REPOSITORY / "README.md", REPOSITORY / "recipes" / "instruction_tuning" / "README.md")
    blocks = [block for path in readmes for block in re.findall(r"```diff\n(.*?)```", path.read_text(), re.S)]
    assert blocks
    return blocks


@pytest.mark.parametrize("block", diff_blocks())
def test_the_lines_that_readmes_add_to_an_existing_script_work(files, tmp_path, monkeypatch, block):
    """Each block is a diff of the script in tests/training, `...` for omitted lines, with other arguments."""
    script = EXISTING.read_text().splitlines()
    lines, at = block.splitlines(), len(script)
    new_lines = [line for line in lines if line.startswith("+")]
    assert len(new_lines) == 2
    assert not any(line.startswith("-") for line in lines)
    for line in reversed(lines):
        if line.startswith("+"):
            script.insert(at, line[1:])
        elif (head := line.split("(")[0].strip()) != "...":
            at = max(place for place, old in enumerate(script[:at]) if old.startswith(head))
    changes = [line for line in difflib.ndiff(EXISTING.read_text().splitlines(), script) if line[0] in "+-"]
    assert [line.replace("+ ", "+", 1) for line in changes] == new_lines

    monkeypatch.chdir(tmp_path)
    from datasets import load_dataset

    pool = load_dataset("json", data_files=str(files / "pool.jsonl"), split="train")
    targets = [row["prompt"] for row in rows(files, "targets")]
    selection = Selector(HiddenStates(str(files / "model"), layer=1)).select(
        pool, [{"prompt": one} for one in targets], 4
    )
    selection.save("selected")
    arguments = [str(files / "model"), str(files / "pool.jsonl"), str(tmp_path / "output")]
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    namespace = {"__name__": "__main__"}
    exec(compile("\n".join(script), "existing_script.py", "exec"), namespace)
    trainer = namespace["trainer"]
    np.testing.assert_array_equal(picks_of(trainer)[0], Selection.load("selected").indices)
    assert trainer.state.global_step == 2  # 4 picks in steps of 2
