"""Shortlists by a FAISS index of stored features: equal to the exact search where all lists are searched, refused if
stale."""

from __future__ import annotations

import functools
import json
import sys

import numpy as np
import pytest

from itl_hf import SelectionConstraints, Selector, Shortlist, embed, select_rows
from itl_hf.embedding import FeatureStore
from itl_hf.gp.kernels import RBF
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.diagnosis.shortlist_sentence import shortlist_sentence
from itl_hf.selection.shortlist import listed_rows
from itl_hf.selection.shortlist.index_file import FACTS, INDEX, build_index, find_index, open_index, read_facts
from itl_hf.text import as_dataset
from tests.disk.killing import count_operations, kill
from tests.selection.shortlist.embedders import CountingEmbedder

faiss = pytest.importorskip("faiss")
AUTO = Standardization("dimensions", unit=True)


def store_of(features, directory, shard_rows=64):
    store = FeatureStore(directory, {"embedder": "numbers"}, rows=len(features), dimension=8, shard_rows=shard_rows)
    for shard in range(store.num_shards):
        store.write(shard, features[slice(*store.row_range(shard))])
    return FeatureStore.open(directory)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 8))
    pool = centres[rng.integers(0, 12, 600)] + 0.5 * rng.normal(size=(600, 8))
    pool[rng.integers(0, 600, 60)] = pool[rng.integers(0, 600, 60)]
    return pool.astype(np.float32), centres[:5] + 0.3 * rng.normal(size=(5, 8))


@pytest.mark.parametrize("kind", ["Flat", "IVF9,Flat"])
def test_the_list_is_that_of_the_exact_search(arrays, tmp_path, kind, monkeypatch):
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    constraints = SelectionConstraints(exclude=list(range(0, 600, 3)))
    pick = functools.partial(select_rows, targets=targets, num_examples=20, shortlist=60, constraints=constraints)
    exact = pick(store.features())
    facts = build_index(store, AUTO, kind)
    assert read_facts(store.directory) == facts
    assert facts.num_lists == (0 if kind == "Flat" else 9)  # all of them: nothing is missed
    with monkeypatch.context() as patch:  # no pass over the pool
        patch.setattr(listed_rows, "NearestRows", None)
        indexed = pick(store.features())
    assert indexed.indices.tolist() == exact.indices.tolist()
    assert indexed.record.shortlist == {**exact.record.shortlist, "index": kind}
    assert "found by an approximate index" in shortlist_sentence(indexed.record)
    assert "index" not in exact.record.shortlist


def test_what_the_index_does_not_find_is_searched_exactly(arrays, tmp_path):
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    facts = build_index(store, AUTO, "IVF60,Flat")
    assert facts.num_lists == 16
    picked = select_rows(store.features(), targets[:1], 20, shortlist=590)
    assert picked.record.shortlist["size"] >= 590
    assert len(set(picked.indices.tolist())) == 20


def test_an_approximate_index_finds_most_rows(arrays, tmp_path):
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    exact = select_rows(store.features(), targets, 40, shortlist=40)
    build_index(store, AUTO, "IVF60,PQ4x4")
    indexed = select_rows(store.features(), targets, 40, shortlist=40)
    assert len(set(exact.indices.tolist()) & set(indexed.indices.tolist())) >= 20


def test_other_preparations_and_kernels_do_without_it(arrays, tmp_path):
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    build_index(store, AUTO)
    for options in ({"standardize": "scale"}, {"standardize": False}, {"kernel": RBF(1.0, on="distance")}):
        picked = select_rows(store.features(), targets, 10, shortlist=20, **options)
        assert "index" not in picked.record.shortlist
    assert select_rows(store.features(), targets, 10).record.shortlist is None


def test_an_index_of_other_features_is_refused(arrays, tmp_path):
    pool, targets = arrays
    build_index(store_of(pool, tmp_path / "one"), AUTO)
    other = store_of(pool + 1e-3, tmp_path / "two")
    for name in (INDEX, FACTS):
        (tmp_path / "two" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    with pytest.raises(ValueError, match="is an index of other features"):
        select_rows(other.features(), targets, 10, shortlist=20)
    build_index(other, AUTO)
    assert select_rows(other.features(), targets, 10, shortlist=20).record.shortlist["index"] == "Flat"


def test_a_damaged_index_is_refused(arrays, tmp_path):
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    build_index(store, AUTO)
    content = (store.directory / INDEX).read_bytes()
    (store.directory / INDEX).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="absent or damaged"):
        select_rows(store.features(), targets, 10, shortlist=20)
    (store.directory / FACTS).write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(ValueError, match="of another version"):
        select_rows(store.features(), targets, 10, shortlist=20)


def test_without_faiss_the_search_is_exact_and_says_so(arrays, tmp_path, monkeypatch):
    pool, targets = arrays
    store = store_of(pool, tmp_path / "features")
    build_index(store, AUTO)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.warns(UserWarning, match="has an index that is not used"):
        picked = select_rows(store.features(), targets, 10, shortlist=20)
    assert "index" not in picked.record.shortlist
    with pytest.raises(ImportError, match=r"itl-hf\[faiss\]"):
        build_index(store, AUTO)


@pytest.mark.parametrize("kind", ["HNSW32", "IVF9,Nothing", "PQ3"])
def test_other_kinds_are_refused(arrays, tmp_path, kind):
    with pytest.raises(ValueError, match=r"kind must be|FAISS has no index"):
        build_index(store_of(arrays[0], tmp_path / "features"), AUTO, kind)


def test_two_stages_use_the_index_of_the_cheap_features(tmp_path, run):
    rows = [{"text": f"{first} {second} {third}"} for first in "abcdef" for second in "ghijk" for third in "lmnopq"]
    targets = [{"text": "a g x"}, {"text": "f k q"}]
    select = lambda: Selector(
        CountingEmbedder(24), shortlist=Shortlist(30, CountingEmbedder(8)), store=tmp_path / "store"
    ).select(rows, targets, 10)
    exact = select()
    result = run("index", "--store", tmp_path / "store", "--min_rows", 100, "--json")
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(result.stdout)["indexes"]
    assert (entry["rows"], entry["kind"]) == (180, "Flat")
    indexed = select()
    assert indexed.indices.tolist() == exact.indices.tolist()
    assert indexed.record.shortlist["index"] == "Flat"
    assert "approximate index" in str(indexed.diagnose())


def test_mistakes_on_the_command_line(tmp_path, run):
    embed(as_dataset(["a b", "c d"], "pool"), CountingEmbedder(8), tmp_path / "store" / "one")
    assert run("index", "--store", tmp_path / "store").exit_code != 0
    assert run("index", "--store", tmp_path / "nowhere", "--min_rows", 1).exit_code != 0
    result = run("index", "--store", tmp_path / "store", "--min_rows", 1, "--standardize", "scale-unit")
    assert result.exit_code == 0, result.output
    assert read_facts(tmp_path / "store" / "one").standardization == "scale-unit"


@pytest.fixture
def run():
    from typer.testing import CliRunner

    from itl_hf.cli.main import app

    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_kill_at_any_operation_leaves_no_index_or_a_whole_one(arrays, tmp_path):
    store = store_of(arrays[0], tmp_path / "features")
    build_index(store, AUTO, "IVF9,Flat")
    job = lambda: build_index(store, AUTO, "Flat")
    num_points = count_operations(job)
    kinds = []
    for point in range(num_points):
        build_index(store, AUTO, "IVF9,Flat")
        kill(job, point)
        index = find_index(store.features(), AUTO)
        kinds.append(index and index[1].kind)
        if index:
            assert open_index(*index).ntotal == len(arrays[0])
    assert set(kinds) == {"IVF9,Flat", None, "Flat"}
    job()
    assert not list(store.directory.glob("*.tmp"))
