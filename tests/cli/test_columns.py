"""`--columns`, `--prompt_template` and recognised formats on the command line, in YAML and in training."""

from __future__ import annotations

import json

import pytest

from itl_hf.cli.column_arguments import join_words
from itl_hf.selection.result.selection import Selection

TEXTS = ["the sum of two and three", "red green blue", "the capital of France", "write a function", "five and six"]


@pytest.fixture
def named(tmp_path):
    """A pool and targets whose columns no format has."""
    rows = [{"ask": text, "reply": "ok", "kind": i % 2} for i, text in enumerate(TEXTS)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "targets.jsonl").write_text(json.dumps({"ask": "the sum of five and two"}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def model_dir(files):
    return files / "model"


def select(run, folder, model_dir, *words):
    return run(
        *("select", "--pool", folder / "pool.jsonl", "--targets", folder / "targets.jsonl", "--num_examples", 2),
        *("--model", model_dir, "--output_dir", folder / "out", *words),
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--columns", "prompt=ask", "completion=reply"],
        ["--columns", "prompt=ask,completion=reply"],
        ["--config", "run.yaml"],
    ],
)
def test_columns_mean_the_same_in_flags_and_yaml(run, named, model_dir, words):
    (named / "run.yaml").write_text("columns:\n  prompt: ask\n  completion: reply\n", encoding="utf-8")
    words = [named / word if word == "run.yaml" else word for word in words]
    result = select(run, named, model_dir, *words)
    assert result.exit_code == 0, result.output
    assert (
        "pool read as columns that were named (ask, reply), targets as columns that were named (ask)" in result.output
    )
    selection = Selection.load(named / "out")
    assert selection.record.columns == {"columns": {"prompt": "ask", "completion": "reply"}}
    assert selection.dataset["prompt"][:] == selection.dataset["ask"][:]
    assert selection.dataset["completion"][:] == ["ok", "ok"]


def test_a_template_joins_columns(run, named, model_dir):
    result = select(run, named, model_dir, "--prompt_template", r"{kind}\n{ask}", "--targets_columns", "prompt=ask")
    assert result.exit_code == 0, result.output
    assert Selection.load(named / "out").dataset["prompt"][0][:2] in ("0\n", "1\n")


def test_unknown_columns_are_said_before_a_model_is_loaded(run, named):
    result = select(run, named, named / "no-model")
    assert "no format is known for the columns of the pool: ask, reply, kind" in str(result.exception)


def test_words_after_columns_are_joined():
    words = ["select", "--columns", "prompt=a", "completion=b", "--pool", "x=1", "--targets-columns", "text=c"]
    assert join_words(words) == [
        *("select", "--columns", "prompt=a completion=b", "--pool", "x=1", "--targets-columns", "text=c")
    ]
