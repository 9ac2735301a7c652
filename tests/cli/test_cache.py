"""`itl-hf cache list` and `clear`, and the options of `select` about the cache."""

import json
import os
import time

import pytest

from itl_hf.embedding.store.cache import FeatureCache


@pytest.fixture
def select(files, run, tmp_path):
    def call(*options):
        return run(
            *("select", "--pool", files / "pool.jsonl", "--targets", files / "targets.txt", "--num_examples", 3),
            *("--model_name_or_path", files / "model", "--output_dir", tmp_path / "selected", "--json", *options),
        )

    return call


def test_select_keeps_features_and_list_shows_them(files, run, select):
    assert select().exit_code == 0
    facts = json.loads(run("cache", "list", "--json").stdout)
    assert facts["directory"] == str(FeatureCache().folder)
    assert sorted(entry["rows"] for entry in facts["entries"])[0] == 2
    assert facts["bytes"] == sum(entry["bytes"] for entry in facts["entries"]) > 0
    shown = run("cache", "list").stdout
    assert "2 datasets" in shown
    assert str(files / "model") in shown
    assert time.strftime("%Y-%m-%d") in shown


def test_no_store_keeps_nothing_and_contradicts_a_store(run, select, tmp_path):
    assert select("--no_store").exit_code == 0
    assert FeatureCache().entries() == []
    assert "0 datasets" in run("cache", "list").stdout
    refused = select("--no_store", "--overwrite", "--store", tmp_path / "store")
    assert refused.exit_code != 0
    assert "--no_store keeps no features" in str(refused.exception)


def test_clear_deletes_what_is_old_and_asks_first(run, select):
    select()
    refused = run("cache", "clear")  # without a terminal
    assert refused.exit_code == 2
    assert "--yes" in refused.output
    old, _ = FeatureCache().entries()
    os.utime(old.directory / "manifest.json", (time.time() - 40 * 86_400,) * 2)
    assert len(json.loads(run("cache", "list", "--older_than", 30, "--json").stdout)["entries"]) == 1
    facts = json.loads(run("cache", "clear", "--older_than", 30, "--yes", "--json").stdout)
    assert facts["deleted"] == 1
    assert not old.directory.exists()
    assert "deleted 1 of 1 datasets" in run("cache", "clear", "--yes").stdout
    assert FeatureCache().entries() == []
    assert "deleted 0 of 0" in run("cache", "clear", "--yes").stdout


@pytest.mark.parametrize(("answer", "left"), [("n", 2), ("y", 0)])
def test_an_answer_decides(run, select, monkeypatch, answer, left):
    select()
    monkeypatch.setattr("itl_hf.cli.cache._has_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer == "y")
    assert run("cache", "clear").exit_code == 0
    assert len(FeatureCache().entries()) == left
