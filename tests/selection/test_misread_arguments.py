"""Arguments that NumPy reads in another way than they are meant."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from itl_hf import ITL, SelectionConstraints, Selector, select_rows
from tests.embedding.fakes import HashEmbedder

RANDOM = np.random.default_rng(0)
POOL, TARGETS = RANDOM.normal(size=(200, 8)), RANDOM.normal(size=(2, 8))
MASK = np.arange(200) >= 190


@pytest.mark.parametrize("mask", [MASK, MASK.tolist(), torch.from_numpy(MASK), pd.Series(MASK), [3, True]])
def test_masks_are_no_row_numbers(mask):
    with pytest.raises(ValueError, match=r"already_selected is a boolean mask; give row numbers: np\.flatnonzero"):
        select_rows(POOL, TARGETS, 3, already_selected=mask)
    with pytest.raises(ValueError, match="exclude is a boolean mask"):
        select_rows(POOL, TARGETS, 3, constraints=SelectionConstraints(exclude=mask))


@pytest.mark.parametrize("numbers", [np.array([3, 5]), torch.tensor([3, 5]), (3, 5), np.array([3, 5], dtype=np.uint8)])
def test_arrays_are_row_numbers(numbers):
    expected = select_rows(POOL, TARGETS, 3, already_selected=[3, 5])
    picked = select_rows(POOL, TARGETS, 3, already_selected=numbers)
    assert picked.indices.tolist() == expected.indices.tolist()
    assert picked.record.already_selected == 2


def test_indices_of_a_selection_are_already_selected():
    texts = [f"row {i}" for i in range(12)]
    selection = Selector(HashEmbedder()).select(texts, ["a"], 4)
    next_picks = Selector(HashEmbedder()).select(texts, ["a"], 2, already_selected=selection.indices)
    assert not set(next_picks.indices) & set(selection.indices)
    assert selection.extend(np.int64(2)).indices[:4].tolist() == selection.indices.tolist()


def test_hidden_values_of_masked_arrays_are_not_read():
    masked = np.ma.MaskedArray(POOL, mask=False)
    assert select_rows(masked, TARGETS, 3).indices.tolist() == select_rows(POOL, TARGETS, 3).indices.tolist()
    masked[7, 2] = np.ma.masked
    with pytest.raises(ValueError, match=r"pool is a masked array that hides 1 values \(the first at 7\)"):
        select_rows(masked, TARGETS, 3)
    hidden = np.ma.MaskedArray(np.arange(200), mask=MASK)
    for options in ({"costs": hidden, "token_budget": 9}, {"groups": hidden, "group_shares": 0.5}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} is a masked array"):
            select_rows(POOL, TARGETS, 3, constraints=SelectionConstraints(**options))
    with pytest.raises(ValueError, match="quality is a masked array"):
        select_rows(POOL, TARGETS, 3, quality=np.ma.MaskedArray(np.ones(200), mask=MASK))
    with pytest.raises(ValueError, match="already_selected is a masked array"):
        select_rows(POOL, TARGETS, 3, already_selected=np.ma.MaskedArray([1, 2], mask=[0, 1]))


LABELS = [None if i % 2 else "a" for i in range(200)]


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        [float("nan") if label is None else label for label in LABELS],
        pd.Series(LABELS, dtype="string"),
        [pd.NaT if label is None else label for label in LABELS],
        np.array([np.nan if label is None else 1.0 for label in LABELS]),
        torch.tensor([float("nan") if label is None else 1.0 for label in LABELS]),
        torch.tensor([i % 2 for i in range(200)]),
    ],
)
def test_rows_without_a_label_are_one_group(labels):
    def num_odd(shares):
        constraints = SelectionConstraints(groups=labels, group_shares=shares)
        return int((select_rows(POOL, TARGETS, 10, constraints=constraints).indices % 2).sum())

    assert num_odd(0.5) == 5
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point():
        assert num_odd({None: (0.0, 0.2)}) == 2


def test_labels_that_cannot_be_labels():
    constraints = SelectionConstraints(groups=[["a"]] * 200, group_shares=0.5)
    with pytest.raises(ValueError, match=r"groups: \['a'\] cannot be a label"):
        select_rows(POOL, TARGETS, 3, constraints=constraints)


def test_noise_that_numbers_do_not_resolve_is_refused():
    with pytest.raises(ValueError, match=r"noise_std is 1e-08, and must be between 9\.9e-08"):
        select_rows(POOL, TARGETS, 3, noise_std=1e-8)
    with pytest.raises(ValueError, match="noise_std is 1e-12, and must be between"):
        select_rows(POOL, TARGETS, 3, acquisition=ITL(noise_std=1e-12))
    picks = select_rows(POOL, TARGETS, 20, noise_std=1e-7)
    assert np.isfinite(picks.gains).all()
    assert len(set(picks.indices.tolist())) == 20


def test_a_row_that_decides_the_preparation_is_reported():
    pool = np.r_[POOL, 300 * RANDOM.normal(size=(1, 8))]
    with pytest.warns(UserWarning, match=r"row 200 of the pool is \d+ times as far from the mean as the others"):
        select_rows(pool, TARGETS, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_rows(POOL, TARGETS, 3)
        select_rows(pool, TARGETS, 3, standardize=False, kernel="cosine")  # nothing is divided by the variance


def test_numbers_of_numpy_are_numbers():
    constraints = SelectionConstraints(costs=[1.0] * 200, token_budget=np.int64(3))
    assert select_rows(POOL, TARGETS, 5, constraints=constraints).record.constraints["token_budget"] == 3
    constraints = SelectionConstraints(groups=LABELS, group_shares=np.float32(0.5))
    assert select_rows(POOL, TARGETS, 4, constraints=constraints).record.constraints["group_shares"] == 0.5
    labels = np.arange(200) % 2
    shares = {labels[0]: (np.float64(0), np.float32(0.5))}
    record = select_rows(POOL, TARGETS, 4, constraints=SelectionConstraints(groups=labels, group_shares=shares)).record
    assert json.loads(json.dumps(record.to_json()))["constraints"]["group_shares"] == [[0, 0.0, 0.5]]
    one, other = (select_rows(POOL, TARGETS, 4, noise_std=value) for value in (0.5, np.float32(0.5)))
    assert one.record == other.record
    one, other = (select_rows(POOL, TARGETS, 4, acquisition="random", seed=value) for value in (3, np.int32(3)))
    assert one.indices.tolist() == other.indices.tolist()


@pytest.mark.parametrize("shares", ["0.5", {"a": 0.5}, [("a", 0.1, 0.5)], {"a": (0.1, 0.2, 0.5)}, {"a": "ab"}, True])
def test_shares_of_another_form_are_refused(shares):
    with pytest.raises(TypeError, match=r"group_shares must be the largest share of every group, such as 0\.5"):
        SelectionConstraints(groups=LABELS, group_shares=shares)


def test_costs_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="costs must hold one number for each row: could not convert string"):
        select_rows(POOL, TARGETS, 3, constraints=SelectionConstraints(costs=["x"] * 200, token_budget=3))


@pytest.mark.parametrize("numbers", [3, (i for i in range(2)), {1, 2}])
def test_row_numbers_of_another_form_are_refused(numbers):
    with pytest.raises(ValueError, match="already_selected must hold row numbers of the pool"):
        select_rows(POOL, TARGETS, 3, already_selected=numbers)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: rows.astype(">f8"),
        lambda rows: rows.astype(np.longdouble),
        lambda rows: np.asfortranarray(rows),
    ],
)
def test_arrays_of_every_layout_give_the_same_picks(change):
    expected = select_rows(POOL, TARGETS, 3)
    picked = select_rows(change(POOL), change(TARGETS), 3)
    assert picked.indices.tolist() == expected.indices.tolist()
    np.testing.assert_allclose(picked.gains, expected.gains, rtol=1e-9)


def test_sparse_features_are_refused():
    class Sparse:
        def toarray(self):
            return POOL

    with pytest.raises(ValueError, match=r"`pool` is a sparse matrix; give it as an array: pool\.toarray\(\)"):
        select_rows(Sparse(), TARGETS, 3)
