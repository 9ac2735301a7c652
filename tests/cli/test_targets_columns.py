"""`itl-hf targets --columns`: the pool that is screened is read as `select` reads it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from itl_hf.text import benchmark_targets

TEST = "Ann walks three miles on Monday and then five miles on Tuesday with her old dog."
POOL = [{"q": "What is a dog?", "best": "An animal."}, {"q": TEST, "best": "8"}]


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, POOL)))
    benchmark = SimpleNamespace(targets=[{"prompt": "a"}], sources={"t": "train"}, num_copies=0, test_texts=[TEST])
    monkeypatch.setattr(benchmark_targets, "benchmark_targets", lambda names, include_path: benchmark)
    return tmp_path


def call(run, files, *options):
    return run("targets", "--lm_eval", "t", "--output_dir", files / "out", "--json", *options)


@pytest.mark.parametrize(
    "options", [("--columns", "prompt=q", "completion=best"), ("--prompt_template", "Question: {q}")]
)
def test_the_columns_of_the_pool_are_named(run, files, options):
    result = call(run, files, "--pool", files / "pool.jsonl", *options)
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["contaminated"] == [1]
    (row,) = map(json.loads, (files / "out" / "contaminated.jsonl").read_text().splitlines())
    assert row["prompt"].endswith(TEST)


def test_columns_without_a_pool_or_unknown_ones_are_refused(run, files):
    result = call(run, files, "--columns", "prompt=q")
    assert result.exit_code != 0
    assert "go with --pool" in result.output + str(result.exception)
    result = call(run, files, "--pool", files / "pool.jsonl", "--columns", "prompt=question")
    assert "question" in str(result.exception)
    assert not (files / "out").exists()
