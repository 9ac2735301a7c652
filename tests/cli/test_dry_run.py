"""`--dry_run`: says what the real run then takes, and does nothing."""

from __future__ import annotations

import json
import tempfile

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


@pytest.mark.parametrize(("command", "has_store"), [("embed", True), ("select", True), ("select", False)])
def test_nothing_is_left_behind(files, run, tmp_path, monkeypatch, command, has_store):
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    for folder in (work, temporary):
        folder.mkdir()
    monkeypatch.setenv("ITL_HF_CACHE", str(work / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    pool = files / "pool.jsonl"
    rows = [pool] if command == "embed" else ["--pool", pool, "--targets", files / "targets.txt", "--num_examples", 3]
    store = ("--store", work / "store") if has_store else ()
    result = run(command, *rows, "--model", files / "model", *store, "--dry_run")
    assert result.exit_code == 0, result.output
    assert "Nothing was kept: the real run embeds these rows again" in result.stdout
    assert [*work.rglob("*"), *temporary.rglob("*")] == []


def test_features_are_the_same_with_and_without_a_dry_run(files, run, tmp_path):
    options = (files / "pool.jsonl", "--model", files / "model", "--store")
    assert run("embed", *options, tmp_path / "a", "--dry_run").exit_code == 0
    contents = []
    for name in ("a", "b"):
        assert run("embed", *options, tmp_path / name).exit_code == 0
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert contents[0]


def test_a_token_budget_counts_tokens_itself(files, run, tmp_path):
    limits = ("--num_examples", 20, "--token_budget", 120, "--output_dir", tmp_path / "out")
    assert run("select", "--config", files / "run.yaml", *limits).exit_code == 0
    selection = Selection.load(tmp_path / "out")
    texts = [row["prompt"] + row["completion"] for row in selection.dataset]
    lengths = [len(ids) for ids in tiny_tokenizer()(texts)["input_ids"]]
    assert 0 < sum(lengths) <= 120 < sum(lengths) + 60
    assert selection.record.constraints == {"token_budget": 120.0}
