"""Budgets, group shares, stopping, and conditioning on what is known, against brute force under the same limits."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pytest
import torch

from itl_hf import ITL, SelectionConstraints, StopWhen, select_rows
from itl_hf.gp import pool as pool_module
from itl_hf.search import speculative as speculate
from tests.oracle import gaussian_process as gp
from tests.oracle import objectives as oracle
from tests.selection.test_select_rows import problem

LINEAR = {"kernel": "linear", "noise_std": 0.7}


def brute_force(pool, targets, num_examples, is_open):
    """ITL by brute force where `is_open(row, picks)` says which rows may be picked."""
    rows = np.concatenate(gp.standardize(pool, targets))
    kernel, anchors = rows @ rows.T, list(range(len(pool), len(rows)))
    picks = []
    while len(picks) < num_examples:
        free = [row for row in range(len(pool)) if row not in picks and is_open(row, picks)]
        if not free:
            break
        scores = np.array([oracle.information_gain(kernel, row, anchors, picks, 0.49, 0.49) for row in free])
        picks.append(free[int(np.flatnonzero(scores >= scores.max() * (1 - 1e-9))[0])])
    return picks


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(pool_module, "BLOCK_ROWS", 9)
        monkeypatch.setattr(speculate, "FEWEST_CANDIDATES", 8)
        monkeypatch.setattr(speculate, "FIRST_PICKS", 3)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("seed", range(3))
def test_a_budget_skips_rows_that_no_longer_fit(seed):
    pool, targets = (rows.numpy() for rows in problem(seed, rows=60, dimension=6, num_targets=3, duplicates=20))
    costs = np.random.default_rng(seed).integers(1, 30, size=60)
    picked = select_rows(pool, targets, 20, constraints=SelectionConstraints(costs=costs, token_budget=100), **LINEAR)
    fits = lambda row, picks: costs[row] <= 100 - costs[picks].sum()
    assert picked.indices.tolist() == brute_force(pool, targets, 20, fits)
    assert costs[picked.indices].sum() <= 100


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("seed", range(3))
def test_groups_get_at_least_and_at_most_their_shares(seed):
    pool, targets = (rows.numpy() for rows in problem(seed, rows=60, dimension=6, num_targets=3, duplicates=20))
    groups = np.array(["wiki", "code", "chat"])[np.random.default_rng(seed).integers(0, 3, size=60)]
    shares = {"wiki": (0.0, 0.3), "chat": (0.4, 1.0)}
    picked = select_rows(
        pool, targets, 10, constraints=SelectionConstraints(groups=groups, group_shares=shares), **LINEAR
    )

    def is_open(row, picks):
        counts = {label: int((groups[picks] == label).sum()) for label in ("wiki", "code", "chat")}
        owed = max(4 - counts["chat"], 0)
        return not (groups[row] == "wiki" and counts["wiki"] >= 3) and (owed < 10 - len(picks) or groups[row] == "chat")

    assert picked.indices.tolist() == brute_force(pool, targets, 10, is_open)
    assert (groups[picked.indices] == "wiki").sum() <= 3
    assert (groups[picked.indices] == "chat").sum() >= 4


@pytest.mark.parametrize("acquisition", ["cosine", "random"])
def test_baselines_keep_to_the_limits_too(acquisition):
    pool, targets = problem(1, rows=60, dimension=6, num_targets=3)
    groups = [row % 3 for row in range(60)]
    picked = select_rows(
        pool,
        targets,
        9,
        acquisition=acquisition,
        constraints=SelectionConstraints(groups=groups, group_shares=1 / 3),
        **LINEAR,
    )
    assert sorted(np.bincount(np.array(groups)[picked.indices])) == [3, 3, 3]


@pytest.mark.usefixtures("blocks")
def test_stopping_keeps_the_picks_before_it():
    pool, targets = problem(2, rows=60, dimension=6, num_targets=3)
    whole = select_rows(pool, targets, 30, **LINEAR)
    by_gain = select_rows(
        pool, targets, 30, constraints=SelectionConstraints(stop_when=StopWhen(gain=float(whole.gains[7]))), **LINEAR
    )
    assert by_gain.indices.tolist() == whole.indices[: len(by_gain)].tolist()
    assert len(by_gain) == int((whole.gains < whole.gains[7]).argmax())
    by_variance = select_rows(
        pool, targets, 30, constraints=SelectionConstraints(stop_when=StopWhen(variance_left=0.4)), **LINEAR
    )
    left = whole.target_variance.sum(1) / whole.target_variance[0].sum()  # six dimensions: all of it is reducible
    assert len(by_variance) == int((left <= 0.4).argmax())
    assert by_variance.indices.tolist() == whole.indices[: len(by_variance)].tolist()


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("acquisition", ["itl", "vtl", "ctl"])
def test_a_selection_continued_is_one_longer_selection(kernel, acquisition):
    pool, targets = problem(3, rows=60, dimension=6, num_targets=3, duplicates=20)
    options = {"kernel": kernel, "acquisition": acquisition, "noise_std": 0.7}
    whole = select_rows(pool, targets, 24, **options)
    first = select_rows(pool, targets, 11, **options)
    rest = select_rows(pool, targets, 13, already_selected=first.indices, **options)
    assert [*first.indices, *rest.indices] == whole.indices.tolist()
    np.testing.assert_allclose(rest.gains, whole.gains[11:], rtol=1e-6)
    np.testing.assert_allclose(rest.target_variance, whole.target_variance[11:], atol=1e-9)


def test_features_of_data_trained_on_before_count_as_known():
    pool, targets = problem(4, rows=60, dimension=6, num_targets=3)
    by_number = select_rows(pool, targets, 8, already_selected=[3, 9], **LINEAR)
    by_features = select_rows(pool, targets, 10, already_selected=pool[[3, 9]], **LINEAR)
    assert by_number.target_variance[0] == pytest.approx(by_features.target_variance[0])
    assert not {3, 9} & set(by_number.indices.tolist())
    assert by_number.record.already_selected == by_features.record.already_selected == 2


def test_itl_says_when_it_has_lost_its_direction():
    pool, _ = problem(5, rows=60, dimension=4, num_targets=1)
    targets = torch.eye(4).double()
    with pytest.warns(UserWarning, match="does not depend on the targets"):
        undirected = select_rows(pool, targets, 6, kernel="linear", acquisition=ITL(0.5, 0.0))
    same = select_rows(pool, targets, 6, kernel="linear", noise_std=0.5, acquisition="undirected")
    assert undirected.indices.tolist() == same.indices.tolist()


BAD = {
    "costs without a budget": (
        dict(constraints=SelectionConstraints(costs=[1.0] * 4)),
        "costs together with token_budget",
    ),
    "a negative cost": (
        dict(constraints=SelectionConstraints(costs=[1.0, 1.0, -1.0, 1.0], token_budget=3)),
        "row 2 has -1.0",
    ),
    "too few costs": (
        dict(constraints=SelectionConstraints(costs=[1.0], token_budget=3)),
        "one number for each of the 4 rows",
    ),
    "a budget of nothing": (
        dict(constraints=SelectionConstraints(costs=[1.0] * 4, token_budget=0)),
        "token_budget must be positive",
    ),
    "shares without groups": (
        dict(constraints=SelectionConstraints(group_shares=0.5)),
        "groups together with group_shares",
    ),
    "an unknown label": (
        dict(constraints=SelectionConstraints(groups=["a"] * 4, group_shares={"b": (0, 1)})),
        "no row has the label 'b'",
    ),
    "shares upside down": (
        dict(constraints=SelectionConstraints(groups=["a"] * 4, group_shares={"a": (0.9, 0.1)})),
        "smallest <= largest",
    ),
    "more than there is": (
        dict(constraints=SelectionConstraints(groups=["a", "b", "b", "b"], group_shares={"a": (1.0, 1.0)})),
        "'a' has 1 rows",
    ),
    "a row beyond the pool": (dict(already_selected=[4]), "row 4 is not among the 4 rows"),
    "known rows of another width": (dict(already_selected=np.zeros((2, 3))), "3 features and `pool` rows 2"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD.keys())
def test_bad_limits_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        select_rows(np.random.default_rng(0).normal(size=(4, 2)), [[1.0, 0.0]], 2, **options)


@pytest.mark.parametrize("options", [{}, {"gain": 0.0}, {"variance_left": 1.0}])
def test_stop_when_checks_its_numbers(options):
    with pytest.raises(ValueError, match="StopWhen"):
        StopWhen(**options)


def test_excluded_rows_are_never_picked():
    pool, targets = (rows.numpy() for rows in problem(0, rows=60, dimension=6, num_targets=3))
    first = select_rows(pool, targets, 10, **LINEAR).indices.tolist()
    constraints = SelectionConstraints(exclude=first[:3])
    again = select_rows(pool, targets, 57, constraints=constraints, **LINEAR).indices.tolist()
    assert sorted([*again, *first[:3]]) == list(range(60))
    assert again[:10] == brute_force(pool, targets, 10, lambda row, _: row not in first[:3])
    with pytest.raises(ValueError, match="more than the 57 rows"):
        select_rows(pool, targets, 58, constraints=constraints, **LINEAR)


@pytest.mark.parametrize("acquisition", ["vtl", "random", "cosine", "round_robin", "k_center"])
def test_every_acquisition_keeps_to_excluded_rows(acquisition):
    pool, targets = (rows.numpy() for rows in problem(1, rows=30, dimension=6, num_targets=3))
    for replace in (False, True):
        constraints = SelectionConstraints(exclude=np.arange(20), replace=replace)
        picks = select_rows(pool, targets, 10, acquisition=acquisition, constraints=constraints, **LINEAR).indices
        assert picks.min() >= 20


EXCLUDE = {
    "outside the pool": (([0, 4],), ValueError, "exclude: row 4 is not among the 4 rows"),
    "negative": (([-1],), ValueError, "exclude: row -1"),
    "no numbers": (([0.5],), ValueError, "exclude must hold row numbers"),
    "a mask": (([True, False, False, False],), ValueError, "exclude is a boolean mask"),
    "prompts": ((["a"],), TypeError, "select_rows knows no texts"),
    "texts": ((datasets.Dataset.from_dict({"text": ["a"]}),), TypeError, "select_rows knows no texts"),
    "everything": ((range(4),), ValueError, "more than the 0 rows"),
}


@pytest.mark.parametrize("name", EXCLUDE)
def test_an_exclusion_that_cannot_be_read_is_refused(name):
    (exclude,), kind, message = EXCLUDE[name]
    with pytest.raises(kind, match=message):
        select_rows(np.eye(4), np.eye(4)[:1], 1, constraints=SelectionConstraints(exclude=exclude))


@pytest.mark.parametrize(
    "constraints",
    [
        SelectionConstraints(),
        SelectionConstraints(replace=True, exclude=[3, 1], costs="cost", token_budget=5.0, groups="source"),
        SelectionConstraints(group_shares={1: (0.0, 0.5), None: (0.1, 1.0)}, stop_when=StopWhen(gain=0.1)),
        SelectionConstraints(group_shares=0.5, stop_when=StopWhen(variance_left=0.5), token_budget=3.0),
    ],
)
def test_constraints_survive_json(constraints):
    entries = json.loads(json.dumps(constraints.to_json()))
    again = SelectionConstraints.from_json(entries)
    assert again.to_json() == constraints.to_json()
    assert again.group_shares == constraints.group_shares
    assert list(again.exclude) == list(constraints.exclude)


def test_values_given_directly_are_not_in_the_json():
    entries = SelectionConstraints(costs=[1.0, 2.0], token_budget=3.0, groups=["a", "b"], group_shares=0.5).to_json()
    assert entries == {"costs": None, "token_budget": 3.0, "groups": None, "group_shares": 0.5}
    with pytest.raises(ValueError, match="given as numbers"):
        SelectionConstraints.from_json(entries)


@pytest.mark.parametrize("acquisition", ["round_robin", "bm25"])
def test_turns_do_not_depend_on_rows_that_could_not_win(acquisition):
    """Excluding the row that nobody picks changes nothing; the turns of the targets begin with the first one."""
    pool, targets = (rows.numpy() for rows in problem(2, rows=30, dimension=6, num_targets=3))
    texts = [f"word{row} word{row % 7}" for row in range(30)], ["word1", "word2", "word3"]
    options = {"acquisition": acquisition, "texts": texts, **LINEAR}
    last = select_rows(pool, targets, 30, **options).indices[-1]
    constraints = SelectionConstraints(exclude=[int(last)])
    picks = select_rows(pool, targets, 12, constraints=constraints, **options).indices
    assert picks.tolist() == select_rows(pool, targets, 12, **options).indices.tolist()


@pytest.mark.parametrize("numbers", [np.array([3, 1]), torch.tensor([3, 1]), (3, 1), [np.int64(3), 1]])
def test_row_numbers_may_be_of_any_kind(numbers):
    pool = np.eye(6) + 0.1
    constraints = SelectionConstraints(exclude=torch.tensor([0]) if isinstance(numbers, torch.Tensor) else [0])
    picks = select_rows(pool, pool[:2], 3, already_selected=numbers, constraints=constraints)
    assert sorted(picks.indices.tolist()) == [2, 4, 5]


def test_a_mask_of_rows_already_selected_is_refused():
    with pytest.raises(ValueError, match="already_selected is a boolean mask"):
        select_rows(np.eye(4), np.eye(4)[:1], 1, already_selected=np.array([True, False, False, True]))
