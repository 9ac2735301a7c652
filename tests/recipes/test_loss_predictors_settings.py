"""The settings of ITL that the recipe orders, against the package's own selection and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from itl_hf import select_rows
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.noise import auto_noise_std
from recipes.benchmarks.loss_predictors.correlations import agreement
from recipes.benchmarks.loss_predictors.panel import Entry
from recipes.benchmarks.loss_predictors.settings import (
    Setting,
    kernel_of_cosines,
    paired_differences,
    picks,
    round_robin,
    rule_variance,
    settings,
)
from recipes.benchmarks.loss_predictors.tables import Predictor, common, compare, records, restricted
from tests.recipes.test_loss_predictors import entry, unit_rows


@pytest.fixture(scope="module")
def data():
    return unit_rows(300, 12, 1), unit_rows(8, 12, 2)


@pytest.mark.parametrize(("name", "kernel"), [("rbf", RBF(0.6)), ("linear", Linear())])
def test_the_whole_pool_gives_the_picks_of_the_package(data, name, kernel):
    pool, targets = data
    expected = select_rows(pool, targets, 24, kernel=kernel, standardize=False).indices
    assert picks(Setting(name), pool, targets, 24).tolist() == expected.tolist()


@pytest.mark.parametrize(("name", "kernel"), [("rbf", RBF(0.6)), ("linear", Linear())])
def test_the_noise_is_that_of_the_rule(data, name, kernel):
    targets = data[1]
    expected = auto_noise_std(kernel, torch.from_numpy(targets).double(), 96)[0] ** 2
    assert rule_variance(targets @ targets.T, name, 96) == pytest.approx(expected, rel=1e-4)


def test_round_robin_gives_the_picks_of_the_package(data):
    pool, targets = data
    expected = select_rows(pool, targets, 30, acquisition="round_robin", standardize=False).indices
    assert round_robin(targets @ pool.T, 30).tolist() == expected.tolist()
    assert picks(Setting(shortlist=1.0), pool, targets, 30).tolist() == expected.tolist()


def test_a_shortlist_is_the_first_rows_of_round_robin(data):
    pool, targets = data
    chosen = picks(Setting(shortlist=1.5), pool, targets, 20)
    shortlist = round_robin(targets @ pool.T, 30)
    assert len(set(chosen.tolist())) == 20
    assert set(chosen.tolist()) <= set(shortlist.tolist())
    expected = select_rows(pool[np.sort(shortlist)], targets, 20, kernel=RBF(0.6), standardize=False).indices
    assert chosen.tolist() == np.sort(shortlist)[expected].tolist()


def test_the_kernel_without_a_floor_is_zero_for_orthogonal_rows_and_positive_definite(data):
    assert kernel_of_cosines(np.array([0.0, 1.0]), "rbf without a floor").tolist() == pytest.approx([0, 1])
    cosines = (data[0] @ data[0].T).astype(np.float64)
    assert np.linalg.eigvalsh(kernel_of_cosines(cosines, "rbf without a floor")).min() > -1e-6


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="unknown kernel 'cubic'"):
        kernel_of_cosines(np.eye(2), "cubic")


def test_settings_are_named_apart():
    names = [str(setting) for setting in settings()]
    assert len(set(names)) == len(names)
    assert str(Setting()) in names
    assert names[0] == "round-robin"


def test_paired_differences_have_the_error_over_sets():
    values = {"default": {"a": [1.0, 2.0], "b": [3.0, 4.0]}, "other": {"a": [1.5, 2.5], "b": [2.5, 3.9]}}
    difference, error = paired_differences(values, "default")["other"]
    assert difference == pytest.approx((0.5 - 0.3) / 2)
    assert error == pytest.approx(np.std([0.5, -0.3], ddof=1) / math.sqrt(2))
    assert paired_differences(values, "default")["default"] == (0.0, 0.0)


def cells():
    methods = ["itl", "vtl", "bm25", "random"]
    return [entry(method, 0, {"a": 1.0 + place, "b": 4.0 - place}) for place, method in enumerate(methods)]


def test_compare_predicts_cells_with_the_weights_of_the_targets_and_tasks_apart():
    entries = cells()  # task a, of two thirds of the targets, rises from method to method; task b falls
    right = Predictor("f", "q", np.array([each.task_losses for each in entries]))
    assert compare(right, entries, only_good=False, by_task=False).ranks == pytest.approx(1)
    assert compare(right, entries, only_good=True, by_task=True).ranks == pytest.approx(1)
    same_for_all_tasks = Predictor("f", "q", np.arange(4.0)[:, None])
    assert compare(same_for_all_tasks, entries, only_good=False, by_task=False).ranks == pytest.approx(1)
    assert compare(same_for_all_tasks, entries, only_good=False, by_task=True).ranks == pytest.approx(0)


def test_only_good_methods_are_compared_among_themselves():
    entries = cells()
    values = np.array([[0.0], [1.0], [2.0], [-9.0]])  # wrong about random only
    predictor = Predictor("f", "q", values)
    assert compare(predictor, entries, only_good=True, by_task=False).ranks == pytest.approx(1)
    assert compare(predictor, entries, only_good=False, by_task=False).ranks < 1


def test_common_cells_are_those_that_all_named_features_know():
    entries = cells()
    known = Predictor("cheap", "q", np.zeros((4, 2)))
    partly = Predictor("dear", "q", np.array([[0.0, 0.0], [0.0, np.nan], [0.0, 0.0], [1.0, 1.0]]))
    places = common([known, partly], entries, ["dear"])
    assert places == [0, 2, 3]
    assert [len(each.values) for each in restricted([known, partly], places)] == [3, 3]
    rows = records([partly], entries, "all")
    assert {row["known_cells"] for row in rows} == {3}


def test_entries_of_one_pool_set_and_seed_form_a_group():
    entries = cells()
    assert isinstance(entries[0], Entry)
    assert len({each.group for each in entries}) == 1
    losses = np.array([float(each.weights @ each.task_losses) for each in entries])
    assert agreement(losses, losses, [each.group for each in entries], {entries[0].group: "set"}).ranks == 1
