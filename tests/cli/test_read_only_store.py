"""A store on a read-only disk is used as long as nothing has to be written into it."""

from __future__ import annotations

import json
import os
import tempfile

import pytest

from itl_hf import HiddenStates


@pytest.fixture
def store(files, run, tmp_path):
    """A store with the features of the pool and the targets, beside the picks that were made with them."""
    selected = run(*select_words(files, tmp_path / "first"), "--store", tmp_path / "store")
    (tmp_path / "picks.json").write_text(json.dumps(json.loads(selected.stdout)["indices"]))
    return tmp_path / "store"


@pytest.fixture
def read_only(store, monkeypatch):
    """Lets every attempt to write into the store fail, also for root."""
    new_file, makedirs = tempfile.TemporaryFile, os.mkdir

    def refuse(path):
        if str(path).startswith(str(store)):
            raise OSError(30, "Read-only file system", str(path))

    def temporary_file(*arguments, dir=None, **options):
        refuse(dir)
        return new_file(*arguments, dir=dir, **options)

    def make_folder(path, *arguments, **options):
        refuse(path)
        return makedirs(path, *arguments, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    monkeypatch.setattr(os, "mkdir", make_folder)


def select_words(files, output, pool="pool.jsonl"):
    model = ("--model_name_or_path", files / "model", "--num_examples", 3, "--json")
    return ("select", "--pool", files / pool, "--targets", files / "targets.txt", "--output_dir", output, *model)


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


@pytest.mark.usefixtures("read_only")
def test_a_complete_store_is_read(files, run, store, tmp_path):
    before = state(store)
    selected = run(*select_words(files, tmp_path / "second"), "--store", store)
    assert selected.exit_code == 0, selected.exception
    assert json.loads(selected.stdout)["indices"] == json.loads((tmp_path / "picks.json").read_text())
    embedded = run("embed", files / "pool.jsonl", "--model_name_or_path", files / "model", "--store", store, "--json")
    assert embedded.exit_code == 0, embedded.exception
    assert state(store) == before


@pytest.mark.usefixtures("read_only")
def test_features_that_are_missing_are_refused_before_they_are_computed(files, run, store, tmp_path, monkeypatch):
    (tmp_path / "other.txt").write_text("a target that is new")
    monkeypatch.setattr(HiddenStates, "embed", lambda *_, **__: pytest.fail("the model was called"))
    for words in (
        ("select", "--pool", files / "pool.jsonl", "--targets", tmp_path / "other.txt", "--num_examples", 3),
        ("embed", tmp_path / "other.txt"),
    ):
        output = ("--output_dir", tmp_path / "third") if words[0] == "select" else ()
        refused = run(*words, *output, "--model_name_or_path", files / "model", "--store", store)
        assert refused.exit_code != 0
        assert "which lacks features that are needed now" in str(refused.exception)
        assert "nothing can be written" in str(refused.exception)


@pytest.mark.usefixtures("read_only")
def test_a_folder_without_features_is_refused_before_rows_are_read(files, run, store, tmp_path):
    for manifest in store.rglob("manifest.json"):
        manifest.unlink()
    select = run(*select_words(files, tmp_path / "third", pool="none.jsonl"), "--store", store)
    assert "nothing can be written" in str(select.exception)
    embed = run("embed", "none.jsonl", "--model_name_or_path", "none", "--store", store)
    assert "nothing can be written" in str(embed.exception)
