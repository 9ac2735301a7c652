"""An index that is built part by part: killed builds continue, and the result is that of one build."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from itl_hf import select_rows
from itl_hf.selection.shortlist import listed_rows
from itl_hf.selection.shortlist.index_file import INDEX, LISTS, build_index, open_index, read_facts
from tests.selection.shortlist.test_index import AUTO, arrays, store_of  # noqa: F401
from tests.worlds import ROOT

faiss = pytest.importorskip("faiss")


def run(directory, kill_at):
    command = [sys.executable, "-m", "tests.selection.shortlist.killed_index", str(directory), str(kill_at)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_killed_build_continues_and_gives_the_same_index(arrays, tmp_path, monkeypatch):  # noqa: F811
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    exact = select_rows(store.features(), targets, 20, shortlist=60)
    killed = run(store.directory, 4)  # the fitted lists, two parts, and the third part, which is cut
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (folder,) = store.directory.glob("nearest.parts-*")
    assert sorted(path.name for path in folder.glob("*.faiss")) == [
        "fitted.faiss",
        "part-00000.faiss",
        "part-00001.faiss",
    ]
    assert not (store.directory / INDEX).exists()
    ended = run(store.directory, 0)
    assert json.loads(ended.stdout) == 3 + 1, ended.stderr  # three parts of five, and the index
    assert not list(store.directory.glob("nearest.parts-*"))
    facts = read_facts(store.directory)
    index = open_index(store.directory / INDEX, facts)
    assert index.ntotal == 600
    moved = store.directory.rename(tmp_path / "moved")  # the lists are looked for beside the index
    from itl_hf.embedding import FeatureStore

    with monkeypatch.context() as patch:
        patch.setattr(listed_rows, "NearestRows", None)
        indexed = select_rows(FeatureStore.open(moved).features(), targets, 20, shortlist=60)
    assert indexed.indices.tolist() == exact.indices.tolist()


def test_a_damaged_file_of_lists_is_refused(arrays, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("itl_hf.gp.pool.BLOCK_ROWS", 64)
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    build_index(store, AUTO, "IVF9,Flat", part_rows=128)
    (lists,) = store.directory.glob(f"{LISTS}-*")
    content = bytearray(lists.read_bytes())
    content[200] ^= 1
    lists.write_bytes(content)
    with pytest.raises(ValueError, match="absent or damaged: run itl-hf index again"):
        select_rows(store.features(), targets, 20, shortlist=60)
    build_index(store, AUTO, "IVF9,Flat")  # in one part: the file of lists is no longer needed
    assert not list(store.directory.glob(f"{LISTS}-*"))
    assert len(select_rows(store.features(), np.asarray(targets), 20, shortlist=60).indices) == 20
