"""Every recipe of the gallery from its files to its result, with tiny models."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

GALLERY = Path(__file__).parents[2] / "recipes" / "gallery"
NAMES = ("classification", "retriever", "dpo", "grpo", "accelerate_loop", "test_time")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    for name, architecture in (("model", "llama"), ("bert", "bert")):
        tiny_model(architecture).save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    prompts = [f"{text} {number}" for number in range(6) for text in SENTENCES]
    answers = [f" {row} it is" for row in range(len(prompts))]
    rows = {
        "classification": [{"text": prompt, "label": ("a", "b")[row % 2]} for row, prompt in enumerate(prompts)],
        "retriever": [{"anchor": prompt, "positive": answer} for prompt, answer in zip(prompts, answers, strict=True)],
        "dpo": [
            {"chosen": prompt + answer, "rejected": f"{prompt} none"}
            for prompt, answer in zip(prompts, answers, strict=True)
        ],
        "grpo": [{"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts, answers, strict=True)],
        "pairs": [{"prompt": prompt, "completion": answer} for prompt, answer in zip(prompts, answers, strict=True)],
        "targets": [{"prompt": f"{text} 99"} for text in SENTENCES[:3]],
        "texts": [{"text": f"{text} 99"} for text in SENTENCES[:3]],
    }
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    (folder / "questions.txt").write_text("\n".join(SENTENCES[:3]))
    return folder


def run(name, files, pool, targets, *options, **more):
    module = importlib.import_module(f"recipes.gallery.{name}")
    return module.main(str(files / pool), str(files / targets), *options, **more)


@pytest.mark.slow
def test_classification(files, tmp_path):
    pytest.importorskip("sentence_transformers")
    bert, out = str(files / "bert"), str(tmp_path / "out")
    trainer = run("classification", files, "classification.jsonl", "texts.jsonl", bert, bert, 9, out)
    assert trainer.state.global_step == 3  # ten rows, one of them replayed, in batches of 16
    assert (tmp_path / "out" / "config.json").exists()


@pytest.mark.slow
def test_retriever(files, tmp_path):
    pytest.importorskip("sentence_transformers")
    options = str(files / "bert"), 8, str(tmp_path / "out")
    trainer = run("retriever", files, "retriever.jsonl", "questions.txt", *options)
    assert trainer.state.global_step == 3
    assert (tmp_path / "out" / "modules.json").exists()


@pytest.mark.slow
def test_dpo(files, tmp_path):
    options = str(files / "model"), 8, str(tmp_path / "out")
    trainer = run("dpo", files, "dpo.jsonl", "targets.jsonl", *options, bf16=False)
    assert len(trainer.train_dataset) == 8
    assert trainer.state.global_step == 6
    assert (tmp_path / "out" / "adapter_config.json").exists()


@pytest.mark.slow
def test_grpo(files, tmp_path):
    module = importlib.import_module("recipes.gallery.grpo")
    assert module.has_answer(["it is 4", [{"content": "5"}]], answer=["4", "4"]) == [1.0, 0.0]
    options = str(files / "model"), 4, str(tmp_path / "out")
    changes = {"num_generations": 2, "max_completion_length": 3, "num_train_epochs": 1, "bf16": False}
    trainer = run("grpo", files, "grpo.jsonl", "targets.jsonl", *options, **changes)
    assert len(trainer._get_train_sampler().sampler) == 4
    assert (tmp_path / "out" / "adapter_config.json").exists()


@pytest.mark.slow
def test_accelerate_loop(files, tmp_path):
    options = str(files / "model"), 8, 2, str(tmp_path / "out")
    losses = run("accelerate_loop", files, "pairs.jsonl", "targets.jsonl", *options)
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]
    assert (tmp_path / "out" / "config.json").exists()


@pytest.mark.slow
def test_test_time(files, capsys):
    answers = run("test_time", files, "pairs.jsonl", "targets.jsonl", str(files / "model"), 4)
    assert len(answers) == 3
    assert capsys.readouterr().out.count(" -> ") == 3


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_short_and_say_which_way_they_are(name):
    text = (GALLERY / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    docstring = text.split('"""')[1]
    assert "attach" in docstring
    assert "selection.dataset" in docstring
    index = (GALLERY.parent / "README.md").read_text(encoding="utf-8")
    assert f"gallery/{name}.py" in index
