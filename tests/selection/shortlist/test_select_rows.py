"""`select_rows(shortlist=...)`: list and picks against brute force, constraints, near-duplicates, the record."""

from __future__ import annotations

import itertools

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf import ITL, SelectionConstraints, SelectionRecord, Shortlist, StopWhen, select_rows
from itl_hf.gp import pool as pool_module
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection import large_pools
from itl_hf.selection.baselines.ranking import turn_order
from itl_hf.selection.diagnosis.shortlist_sentence import shortlist_sentence
from itl_hf.selection.reselect import reselect
from itl_hf.selection.shortlist import listed_rows, options
from itl_hf.selection.shortlist.listed_rows import ListedRows
from tests.oracle import gaussian_process as gp_oracle
from tests.oracle import objectives as oracle
from tests.oracle.shortlist import shortlist as brute_force
from tests.selection.test_select_rows import problem

OBJECTIVES = ("itl", "vtl", "mean_marginal_itl", "ctl", "undirected")


def arrays(seed, rows=80, duplicates=0):
    return tuple(part.numpy() for part in problem(seed, rows, dimension=6, num_targets=4, duplicates=duplicates))


def prepared(pool, targets):
    return gp_oracle.standardize(pool, targets)


def add_near_copies(pool, rows, count, seed=0):
    """The pool with `count` slightly changed copies of each of `rows` behind it."""
    noise = np.random.default_rng(seed).normal(size=(len(rows) * count, pool.shape[1]))
    return np.concatenate([pool, pool[np.repeat(rows, count)] + 1e-3 * noise])


def greedy_among(objective, pool, targets, rows, num_examples, noise_std=0.7):
    features = np.concatenate(prepared(pool, targets))
    anchors = list(range(len(pool), len(features)))
    return oracle.greedy(objective, features @ features.T, sorted(rows), anchors, num_examples, noise_std, noise_std)[0]


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(pool_module, "BLOCK_ROWS", 9)
        monkeypatch.setattr(listed_rows, "LOOKAHEAD_ROWS", 5)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("size", [10, 13, 25, 60])
def test_picks_equal_brute_force_among_the_list(objective, size):
    pool, targets = arrays(size, duplicates=30)
    rows = brute_force(*prepared(pool, targets), size)
    picked = select_rows(pool, targets, 10, acquisition=objective, kernel="linear", noise_std=0.7, shortlist=size)
    assert picked.indices.tolist() == greedy_among(objective, pool, targets, rows, 10)
    assert picked.record.shortlist["size"] == len(rows)


@pytest.mark.parametrize("kernel", ["auto", "linear", "laplace", "cosine", RBF(2.0, on="distance")])
@pytest.mark.parametrize("acquisition", [*OBJECTIVES, "information_density", "badge", "k_center", "max_similarity"])
def test_a_list_of_all_rows_is_no_list(kernel, acquisition):
    pool, targets = arrays(1, duplicates=30)
    options = {"kernel": kernel, "acquisition": acquisition}
    whole = select_rows(pool, targets, 12, **options)
    for size in (len(pool), len(pool) + 7):
        picked = select_rows(pool, targets, 12, shortlist=size, **options)
        assert picked.indices.tolist() == whole.indices.tolist()
        np.testing.assert_array_equal(picked.gains, whole.gains)
        np.testing.assert_array_equal(picked.target_variance, whole.target_variance)


@pytest.mark.parametrize("kernel", ["auto", "linear", "laplace", "cosine"])
@pytest.mark.parametrize("num_examples", [1, 3, 4, 11, 40])
def test_a_list_of_as_many_rows_as_picks_has_the_rows_of_round_robin(kernel, num_examples):
    pool, targets = arrays(2)
    turns = select_rows(pool, targets, num_examples, kernel=kernel, acquisition="round_robin")
    picked = select_rows(pool, targets, num_examples, kernel=kernel, shortlist=num_examples)
    assert set(picked.indices.tolist()) == set(turns.indices.tolist())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 45),
    copies=st.integers(0, 4),
    num_closed=st.integers(0, 20),
    weights=st.none() | st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=4, max_size=4),
)
def test_the_list_equals_brute_force(seed, size, copies, num_closed, weights):
    rng = np.random.default_rng(seed)
    pool, targets = arrays(seed, rows=30)
    pool = add_near_copies(pool, rng.integers(0, 30, size=4), copies, seed)
    closed = rng.permutation(len(pool))[:num_closed]
    prepared_pool = Pool(torch.tensor(pool), Standardization("dimensions", unit=True))
    prepared_targets = prepared_pool.preparation(torch.tensor(targets))
    nothing = torch.zeros(0, 6, dtype=torch.float64)
    list_of_rows = ListedRows(
        prepared_pool, Linear(), prepared_targets, nothing, weights=weights and torch.tensor(weights)
    )
    is_open = torch.ones(len(pool), dtype=torch.bool)
    is_open[closed.tolist()] = False
    list_of_rows.grow(is_open, size)
    expected = brute_force(*prepared(pool, targets), size, closed=closed.tolist(), weights=weights)
    in_order = len(expected) < len(pool) - num_closed
    assert list_of_rows.rows == expected if in_order else sorted(list_of_rows.rows) == sorted(expected)


def test_near_duplicates_count_once():
    pool, targets = arrays(3)
    first = brute_force(*prepared(pool, targets), 8)
    crowded = add_near_copies(pool, first, 5)
    picked = select_rows(crowded, targets, 8, shortlist=8)
    assert picked.record.shortlist["near_duplicates"] == 8  # of 40: at most as many as rows that are none
    assert picked.record.shortlist["size"] == 16
    assert "8 near-duplicates" in shortlist_sentence(picked.record)


def test_rows_that_all_look_the_same_are_on_the_list_together():
    """To a weak embedder the rows of a task can be near-duplicates of each other; it must not get one row only."""
    pool, targets = arrays(4, rows=5)
    repeated = np.tile(pool, (4, 1))
    picked = select_rows(repeated, targets, 9, shortlist=9)
    assert len(set(picked.indices.tolist())) == 9
    assert picked.record.shortlist["size"] == 5 + 9


def test_rows_that_may_not_be_picked_take_no_place():
    pool, targets = arrays(5)
    nearest = brute_force(*prepared(pool, targets), 30)
    constraints = SelectionConstraints(exclude=nearest[:20])
    picked = select_rows(pool, targets, 10, constraints=constraints, shortlist=10)
    assert set(picked.indices.tolist()) == set(brute_force(*prepared(pool, targets), 10, closed=nearest[:20]))
    rest = select_rows(pool, targets, 10, already_selected=nearest[:20], shortlist=10)
    assert set(rest.indices.tolist()) == set(picked.indices.tolist())
    few = select_rows(pool, targets, 60, constraints=constraints, shortlist="auto")
    assert len(few) == 60


def test_near_duplicates_of_rows_that_were_trained_on_take_no_place():
    pool, targets = arrays(6)
    nearest = brute_force(*prepared(pool, targets), 4)
    crowded = add_near_copies(pool, nearest, 3)
    picked = select_rows(crowded, targets, 6, already_selected=nearest, shortlist=6)
    assert picked.record.shortlist["near_duplicates"] == 6
    assert picked.record.shortlist["size"] == 12


def test_groups_with_smallest_shares_have_enough_rows_on_the_list():
    pool, targets = arrays(7)
    groups = np.where(np.isin(np.arange(80), brute_force(*prepared(pool, targets), 60)), "near", "far")
    constraints = SelectionConstraints(groups=groups, group_shares={"far": (0.5, 1.0)})
    picked = select_rows(pool, targets, 10, constraints=constraints, shortlist="auto")
    assert len(picked) == 10
    assert (groups[picked.indices] == "far").sum() == 5
    assert picked.record.shortlist["size"] >= 15


def test_groups_with_largest_shares_do_not_end_the_selection_early():
    pool, targets = arrays(8)
    groups = np.where(np.isin(np.arange(80), brute_force(*prepared(pool, targets), 40)), "near", "far")
    constraints = SelectionConstraints(groups=groups, group_shares={"near": (0.0, 0.1)})
    picked = select_rows(pool, targets, 20, constraints=constraints, shortlist=20)
    assert len(picked) == 20
    assert (groups[picked.indices] == "near").sum() == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_ends_the_selection_where_no_row_of_the_pool_fits(seed):
    pool, targets = arrays(seed)
    costs = np.random.default_rng(seed).integers(1, 40, size=80)
    constraints = SelectionConstraints(costs=costs, token_budget=150)
    picked = select_rows(pool, targets, 30, constraints=constraints, shortlist=30)
    rest = np.setdiff1d(np.arange(80), picked.indices)
    assert costs[picked.indices].sum() <= 150
    assert len(picked) == 30 or costs[rest].min() > 150 - costs[picked.indices].sum()


def test_a_budget_or_shares_that_fit_no_row_are_refused():
    pool, targets = arrays(4)
    budget = SelectionConstraints(costs=[3] + [5] * 79, token_budget=4, exclude=[0])
    shares = SelectionConstraints(groups=[row % 4 for row in range(80)], group_shares=0.05)
    for shortlist in (None, 10):
        with pytest.raises(ValueError, match="token_budget=4 allows no row: the one of the least cost has 5"):
            select_rows(pool, targets, 10, constraints=budget, shortlist=shortlist)
        with pytest.raises(ValueError, match="group_shares allow no row: of num_examples=10 every share is less"):
            select_rows(pool, targets, 10, constraints=shares, shortlist=shortlist)
    assert len(select_rows(pool, targets, 20, constraints=shares)) == 4


def test_stopping_is_not_taken_for_a_list_that_is_too_short():
    pool, targets = arrays(9)
    whole = select_rows(pool, targets, 20, shortlist=30)
    stop = StopWhen(gain=float(whole.gains[6]))
    early = select_rows(pool, targets, 20, shortlist=30, constraints=SelectionConstraints(stop_when=stop))
    assert early.indices.tolist() == whole.indices[: len(early)].tolist()
    assert 0 < len(early) < 20
    assert early.record.shortlist["size"] == 30


def test_rows_that_may_be_picked_again_need_a_shorter_list():
    pool, targets = arrays(10)
    picked = select_rows(pool, targets, 12, shortlist=3, constraints=SelectionConstraints(replace=True))
    assert set(picked.indices.tolist()) <= set(brute_force(*prepared(pool, targets), 3))
    assert len(picked) == 12


def test_auto_is_a_factor_and_leaves_baselines_alone(monkeypatch):
    pool, targets = arrays(11)
    monkeypatch.setattr(options, "AUTO_SHORTLIST_FACTOR", 2.2)
    entry = select_rows(pool, targets, 10, shortlist="auto").record.shortlist
    assert (entry["setting"], entry["factor"], entry["size"]) == ("auto", 2.2, 22)
    for name in ("undirected", "cosine", "random", "round_robin"):
        plain = select_rows(pool, targets, 10, acquisition=name)
        auto = select_rows(pool, targets, 10, acquisition=name, shortlist="auto")
        assert auto.indices.tolist() == plain.indices.tolist()
        assert auto.record.shortlist is None


def test_texts_and_raw_features_are_those_of_the_rows_on_the_list():
    pool, targets = arrays(12)
    rows = sorted(brute_force(*prepared(pool, targets), 20))
    less = select_rows(pool, targets, 5, acquisition="less", shortlist=20)
    among = select_rows(pool[rows], targets, 5, acquisition="less")
    assert less.indices.tolist() == np.array(rows)[among.indices].tolist()


def test_a_selection_continued_takes_the_rows_that_are_left():
    pool, targets = arrays(13)
    first = select_rows(pool, targets, 8, shortlist=8)
    rest = select_rows(pool, targets, 8, already_selected=first.indices, shortlist=8)
    turns = select_rows(pool, targets, 16, acquisition="round_robin")
    assert {*first.indices.tolist(), *rest.indices.tolist()} == set(turns.indices.tolist())


def test_features_of_a_kernel_stand_for_it_where_memory_is_short(monkeypatch):
    pool, targets = arrays(14, rows=400)
    exact = select_rows(pool, targets, 10, kernel=RBF(0.6), shortlist=40)
    monkeypatch.setattr(large_pools, "FACTOR_BYTES", exact.record.shortlist["size"] * (4 + 2 * 10) * 4)
    assert select_rows(pool, targets, 10, kernel=RBF(0.6), shortlist=40).record.approximation is None
    monkeypatch.setattr(large_pools, "FACTOR_BYTES", 1)
    mapped = select_rows(pool, targets, 10, kernel=RBF(0.6), shortlist=40)
    assert mapped.record.approximation is not None
    assert mapped.indices.tolist() == exact.indices.tolist()
    np.testing.assert_allclose(mapped.target_variance, exact.target_variance, atol=1e-6)


def test_the_record_says_it_and_selects_again():
    pool, targets = arrays(15)
    picked = select_rows(pool, targets, 10, shortlist="auto")
    record = SelectionRecord.from_json(picked.record.to_json())
    assert record == picked.record
    rows, prompts = (datasets.Dataset.from_dict({"text": ["x"] * count}) for count in (80, 4))
    again = reselect(record, rows, prompts, pool, targets, 10)
    assert again.indices.tolist() == picked.indices.tolist()
    assert "15 of the 80 rows" in shortlist_sentence(record)
    assert "not over the pool" in shortlist_sentence(record)
    assert shortlist_sentence(select_rows(pool, targets, 10, shortlist=None).record) == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "whole number of at least 1"),
        (-3, "whole number of at least 1"),
        (True, "whole number of at least 1"),
        (2.5, "whole number of at least 1"),
        ("all", "'auto'"),
        (9, "shortlist=9 is smaller than num_examples=10"),
    ],
)
def test_wrong_values_are_refused(value, message):
    pool, targets = arrays(16)
    with pytest.raises(ValueError, match=message):
        select_rows(pool, targets, 10, shortlist=value)


def test_acquisitions_that_do_not_compare_features_are_refused():
    pool, targets = arrays(17)
    words = ["a"] * 80, ["b"] * 4
    for name in ("random", "dsir", "bm25", "length_matched_random"):
        with pytest.raises(ValueError, match="does not compare rows by their features"):
            select_rows(pool, targets, 10, acquisition=name, texts=words, shortlist=20)


def test_an_embedder_is_refused_without_texts():
    pool, targets = arrays(18)
    with pytest.raises(TypeError, match="Selector takes an embedder"):
        select_rows(pool, targets, 10, shortlist=Shortlist(embedder=_Words()))
    with pytest.raises(TypeError, match="must be an"):
        Shortlist(embedder="a name")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 4))
def test_turns_are_in_proportion_to_weights(weights, cycles):
    order = turn_order(len(weights), torch.tensor(weights, dtype=torch.float64))
    turns = list(itertools.islice(order, cycles * sum(weights)))
    assert np.bincount(turns, minlength=len(weights)).tolist() == [cycles * weight for weight in weights]
    assert list(itertools.islice(turn_order(3, None), 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_other_options_stay_those_of_the_whole_pool():
    pool, targets = arrays(19)
    whole = select_rows(pool, targets, 10, acquisition=ITL(0.5, 0.2)).record
    short = select_rows(pool, targets, 10, acquisition=ITL(0.5, 0.2), shortlist=20).record
    assert {**short.to_json(), "shortlist": None} == {**whole.to_json(), "shortlist": None}


def _Words():
    from tests.selection.shortlist.embedders import CountingEmbedder

    return CountingEmbedder(3)


def test_rows_of_low_quality_take_no_place():
    pool, targets = arrays(20)
    nearest = brute_force(*prepared(pool, targets), 10)
    quality = np.ones(len(pool))
    quality[nearest] = 1e-6
    picked = select_rows(pool, targets, 10, shortlist=10, quality=quality)
    assert not set(nearest) & set(picked.indices.tolist())
    assert set(picked.indices.tolist()) == set(brute_force(*prepared(pool, targets), 10, closed=nearest))


def test_targets_of_more_weight_have_more_turns():
    pool, targets = arrays(21)
    weights = [3.0, 1.0, 1.0, 1.0]
    picked = select_rows(pool, targets, 12, shortlist=12, target_weights=weights)
    assert set(picked.indices.tolist()) == set(brute_force(*prepared(pool, targets), 12, weights=weights))
