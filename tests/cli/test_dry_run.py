"""`--dry_run`: says what the real run then takes, and does nothing."""

from __future__ import annotations

import json

import pytest

from itl_hf import Selection
from tests.tiny_models import tiny_tokenizer


def said(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_embed(files, run, tmp_path):
    options = (files / "pool.jsonl", "--model", files / "model", "--store", tmp_path / "store", "--json")
    told = said(run("embed", *options, "--dry_run"))
    assert not (tmp_path / "store").exists()
    real = said(run("embed", *options))
    assert told["rows"] == real["rows"] == 24
    assert told["tokens"] == real["tokens"]
    assert told["tokens_error"] == 0
    assert told["disk_bytes"] == pytest.approx(real["disk_bytes"], abs=600)
    assert told["seconds"] > 0
    again = said(run("embed", *options, "--dry_run"))
    assert (again["missing_rows"], again["seconds"]) == (0, 0)
    assert again["disk_bytes"] == real["disk_bytes"]


def test_in_words(files, run, tmp_path):
    text = run("embed", files / "pool.jsonl", "--model", files / "model", "--store", tmp_path / "s", "--dry_run").stdout
    for line in ("rows     24 (24 distinct), 24 to embed", "tokens ", "time ", "disk ", "memory ", "Estimated from 24"):
        assert line in text


def test_select(files, run, tmp_path):
    common = ("--config", files / "run.yaml", "--store", tmp_path / "store", "--output_dir", tmp_path / "out")
    told = said(run("select", *common, "--dry_run", "--json"))
    assert told["pool"]["rows"] == 24
    assert told["targets"]["rows"] == 2
    assert told["seconds"] == pytest.approx(
        told["pool"]["seconds"] + told["targets"]["seconds"] + told["picking_seconds"]
    )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store").exists()
    assert "picking" in run("select", *common, "--dry_run").stdout


def test_a_token_budget_counts_tokens_itself(files, run, tmp_path):
    limits = ("--num_examples", 20, "--token_budget", 120, "--output_dir", tmp_path / "out")
    assert run("select", "--config", files / "run.yaml", *limits).exit_code == 0
    selection = Selection.load(tmp_path / "out")
    texts = [row["prompt"] + row["completion"] for row in selection.dataset]
    lengths = [len(ids) for ids in tiny_tokenizer()(texts)["input_ids"]]
    assert 0 < sum(lengths) <= 120 < sum(lengths) + 60
    assert selection.record.constraints == {"token_budget": 120.0}
