"""Rows whose features are NaN or infinite are kept, reported and never picked; others stay as they are."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from itl_hf import Selector, embed
from itl_hf.embedding.embedders.base import Embedder
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.statistics import Statistics
from tests.embedding.fakes import HashEmbedder

TEXTS = [f"row {number}" for number in range(20)]
BAD = ("row 3", "row 12")


def rows(kind="dataset"):
    dataset = datasets.Dataset.from_dict({"text": TEXTS})
    return dataset.to_iterable_dataset() if kind == "stream" else dataset


@pytest.mark.parametrize("kind", ["memory", "store", "stream"])
def test_they_are_kept_and_reported(kind, tmp_path, caplog):
    embedder = HashEmbedder(nan_texts=BAD)
    features = np.asarray(embed(rows(kind), embedder, None if kind == "memory" else tmp_path, shard_rows=10))
    expected = np.asarray(embed(rows(), HashEmbedder()))
    usable = [number for number, text in enumerate(TEXTS) if text not in BAD]
    np.testing.assert_array_equal(features[usable], expected[usable])
    assert np.isnan(features[[3, 12]]).all()
    lines = [record.getMessage() for record in caplog.records if "not finite" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(
        "The features of 2 row(s) are not finite (NaN or infinity); such rows of a pool are never"
    )
    assert "(the first is row 3)" in lines[0]


def test_statistics_are_those_of_the_other_rows(tmp_path):
    embed(rows(), HashEmbedder(nan_texts=BAD), tmp_path, shard_rows=10)
    statistics = FeatureStore.open(tmp_path).statistics(second_moment=True)
    expected = np.asarray(embed(rows(), HashEmbedder()))[[number for number in range(20) if number not in (3, 12)]]
    assert statistics.count == 18
    np.testing.assert_allclose(statistics.mean, expected.mean(0))
    np.testing.assert_allclose(statistics.scale, expected.std(0))
    np.testing.assert_allclose(statistics.second_moment, np.cov(expected.T, bias=True), atol=1e-8)
    assert Statistics.of(np.full((2, 3), np.nan)).count == 0


@pytest.mark.parametrize("acquisition", ["itl", "cosine"])
def test_they_are_never_picked(acquisition, caplog):
    targets = ["row 1", "row 5"]
    selection = Selector(HashEmbedder(nan_texts=BAD), acquisition).select(rows(), targets, 18)
    assert sorted(selection.indices) == [number for number in range(20) if number not in (3, 12)]
    assert selection.record.unusable


def test_rows_that_are_not_finite_together_are_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"row 10: its features are not finite .*, nor are those of the 9 rows after it"
    ):
        embed(rows(), HashEmbedder(nan_texts=TEXTS[10:]), tmp_path, shard_rows=10)
    assert [path.name for path in tmp_path.glob("*.arrow")] == ["shard-00000.arrow"]


class Large(Embedder):
    """Numbers that float16 cannot hold."""

    dimension = 2

    def fingerprint(self):
        return {"embedder": "large"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        return HashEmbedder().embed(rows)[:, :2] + 1e6


def test_numbers_that_the_type_cannot_hold_are_an_error():
    with pytest.raises(ValueError, match=r"row 0: its features reach 1e\+06, which float16 cannot store"):
        embed(rows(), Large(), dtype="float16")


def test_targets_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="row 1 of `targets` holds NaN or infinity"):
        Selector(HashEmbedder(nan_texts=["row 5"])).select(rows(), ["row 1", "row 5"], 3)
