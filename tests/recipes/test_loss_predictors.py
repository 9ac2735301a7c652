"""What the recipe computes from kernels, picks and losses, on small data with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")
scipy_stats = pytest.importorskip("scipy.stats")

from itl_hf.gp.kernels import RBF, Linear  # noqa: E402
from recipes.benchmarks.fine_tuning.cells import Cell  # noqa: E402
from recipes.benchmarks.loss_predictors.correlations import agreement, correlation, ranks, spearman  # noqa: E402
from recipes.benchmarks.loss_predictors.panel import Entry, space_predictors  # noqa: E402
from recipes.benchmarks.loss_predictors.picks import differing_yardsticks  # noqa: E402
from recipes.benchmarks.loss_predictors.predictors import (  # noqa: E402
    LENGTHSCALE,
    kernel_values,
    predictor_names,
    row_predictors,
    task_means,
    variance_left,
)
from recipes.benchmarks.loss_predictors.row_features import RowFeatures  # noqa: E402
from recipes.benchmarks.loss_predictors.spaces import DenseSpace, MeanSpace, prepare, tfidf  # noqa: E402
from recipes.benchmarks.loss_predictors.yardsticks import loss_of_other_seeds  # noqa: E402

# A busy machine must not fail a test.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def unit_rows(count, dimension, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("name", "kernel"), [("rbf", RBF(LENGTHSCALE)), ("linear", Linear())])
def test_kernels_of_cosines_are_those_of_the_package(name, kernel):
    rows = unit_rows(12, 5)
    expected = kernel.cross(torch.from_numpy(rows), torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(kernel_values(rows @ rows.T, name), expected, atol=1e-5)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="unknown kernel 'cubic'"):
        kernel_values(np.eye(2), "cubic")


@patient
@given(st.integers(1, 12), st.integers(1, 5), st.integers(2, 6), st.integers(0, 1000))
def test_variance_left_equals_the_posterior_by_matrix_inversion(num_picks, num_held_out, dimension, seed):
    rows = unit_rows(num_picks + num_held_out, dimension, seed).astype(np.float64)
    kernel = kernel_values(rows @ rows.T, "rbf")
    picks, cross, targets = (
        kernel[:num_picks, :num_picks],
        kernel[:num_picks, num_picks:],
        kernel[num_picks:, num_picks:],
    )
    left = variance_left(picks, cross, targets.diagonal(), [0.1, 3.0])
    for noise, variances in zip([0.1, 3.0], left, strict=True):
        inverse = np.linalg.inv(picks + noise * np.eye(num_picks))
        np.testing.assert_allclose(variances, (targets - cross.T @ inverse @ cross).diagonal(), atol=1e-9)


def test_one_pick_equal_to_the_prompt_leaves_the_noise_share():
    one = np.ones((1, 1))
    np.testing.assert_allclose(variance_left(one, one, np.ones(1), [1.0, 3.0])[:, 0], [1 / 2, 3 / 4])


def test_row_predictors_are_named_and_similarities_have_a_minus_sign():
    cosines = np.array([[1, 0, 0.8], [0, 1, 0.4], [0.8, 0.4, 1]])
    values = dict(zip(predictor_names(), row_predictors(cosines, 2)[:, 0], strict=True))
    assert len(values) == len(row_predictors(cosines, 2))
    assert values["similarity of the nearest pick"] == pytest.approx(-0.8)
    assert values["of all picks"] == pytest.approx(-0.6)
    # Orthogonal picks remove 0.8^2 / (1 + noise) and 0.4^2 / (1 + noise).
    assert values["variance left, linear, noise 1"] == pytest.approx(1 - (0.64 + 0.16) / 2)


def test_task_means_keep_the_order_of_the_tasks():
    means = task_means(np.array([[1.0, 3.0, 10.0]]), ["b", "b", "a"])
    assert {task: value.tolist() for task, value in means.items()} == {"b": [2.0], "a": [10.0]}


@patient
@given(st.lists(st.integers(0, 4), min_size=3, max_size=9), st.randoms(use_true_random=False))
def test_spearman_equals_scipy(values, random):
    first, second = np.array(values, dtype=float), np.array([random.randint(0, 4) for _ in values], dtype=float)
    np.testing.assert_allclose(ranks(first) + 1, scipy_stats.rankdata(first))
    if np.ptp(first) and np.ptp(second):
        assert spearman(first, second) == pytest.approx(scipy_stats.spearmanr(first, second).statistic)
    else:
        assert spearman(first, second) == 0


def test_agreement_compares_only_within_groups_and_averages_over_sets():
    # Within each group the order is right in set a and wrong in set b; levels differ and must not count.
    losses = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0, 1.0, 2.0, 3.0])
    values = np.array([7.0, 8.0, 9.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    groups = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    result = agreement(losses, values, groups, {0: "a", 1: "a", 2: "b"})
    assert (result.ranks, result.slope, result.groups) == (pytest.approx(0), pytest.approx(0), 3)
    assert result.ranks_error == pytest.approx(1)


def test_agreement_leaves_out_missing_predictions_and_small_groups():
    losses, values = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, math.nan, 3.0, 2.0])
    assert agreement(losses, values, [0] * 4, {0: "a"}).ranks == pytest.approx(
        spearman(losses[[0, 2, 3]], values[[0, 2, 3]])
    )
    assert agreement(losses[:2], values[:2], [0, 0], {0: "a"}) is None


def test_a_constant_predictor_predicts_nothing():
    assert correlation(np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0


def entry(method, seed, losses, picks=(0, 1)):
    return Entry(Cell("f", "v", "set", method, 2, seed), np.array(picks), {"a": 2, "b": 1}, losses)


def test_space_predictors_are_means_over_a_tasks_held_out_rows(tmp_path):
    rows = unit_rows(6, 4)
    space = DenseSpace("s", np.arange(6), rows)
    held_out = {"a": np.array([4]), "b": np.array([5, 3])}
    entries = [entry("x", 0, {"a": 1.0, "b": 2.0}), entry("y", 0, {"a": 1.0, "b": 2.0}, (1, 9))]
    values = space_predictors(space, entries, held_out, tmp_path)
    nearest = predictor_names().index("similarity of the nearest pick")
    cosines = rows @ rows.T
    assert values[0, 0, nearest] == pytest.approx(-cosines[:2, 4].max())
    assert values[0, 1, nearest] == pytest.approx(-cosines[:2, [5, 3]].max(0).mean())
    assert np.isnan(values[1]).all()  # row 9 has no features
    np.testing.assert_array_equal(space_predictors(space, entries, held_out, tmp_path), values)
    assert len(list(tmp_path.iterdir())) == 1


def test_mean_space_is_the_rows_side_by_side():
    first, second = unit_rows(5, 3, 1), unit_rows(4, 7, 2)
    space = MeanSpace([DenseSpace("p", np.arange(5), first), DenseSpace("q", np.arange(1, 5), second, True)])
    assert space.name == "p + q"
    assert space.needs_answers
    assert space.numbers.tolist() == [1, 2, 3, 4]
    both = np.concatenate([first[[2, 4]], second[[1, 3]]], 1) / math.sqrt(2)
    np.testing.assert_allclose(space.cosines(np.array([2, 4])), both @ both.T, atol=1e-6)


def test_prepare_fits_on_the_pool_and_returns_unit_rows():
    pool, rows = np.random.default_rng(0).normal(3, 2, (50, 4)), np.full((1, 4), 5.0)
    prepared = prepare(rows, pool)
    expected = (rows - pool.mean(0)) / pool.std(0)
    np.testing.assert_allclose(prepared, expected / np.linalg.norm(expected), atol=1e-4)


def test_tfidf_counts_words_in_the_pool_only():
    space = tfidf("words", ["red fox", "red hen", "new word"], 2)
    cosines = space.cosines(np.arange(3))
    assert 0 < cosines[0, 1] < 1
    assert cosines[0, 2] == 0


def test_row_features_are_computed_once_and_found_again(tmp_path):
    from datasets import Dataset

    rows = Dataset.from_list([{"prompt": str(number), "completion": ""} for number in range(100)])
    features, calls = RowFeatures(tmp_path, rows), []

    def embed(part):
        calls.append(len(part))
        return np.array([[float(row["prompt"])] for row in part])

    features.add([50, 3, 3, 70], embed)
    features.add([3, 99, *range(40)], embed)
    numbers, values = features.load()
    assert sum(calls) == len(numbers) == 43
    assert numbers.tolist() == values[:, 0].tolist() == sorted({50, 70, 99, *range(40)})


def test_differing_yardsticks_tolerate_rounding_only():
    record = {"relevant": 11 / 12, "covered": 4, "originals": 96, "score": None, "spoilt": 0}
    assert differing_yardsticks(record, record | {"relevant": 0.91667}) == ()
    assert differing_yardsticks(record, record | {"originals": 95, "score": 0.5}) == ("originals", "score")


def test_loss_of_other_seeds_leaves_out_the_own_seed():
    entries = [entry("x", seed, {"a": float(seed), "b": 1.0}) for seed in range(3)]
    entries.append(entry("y", 0, {"a": 5.0, "b": 5.0}))
    values = loss_of_other_seeds(entries)
    assert values[:3, 0].tolist() == [1.5, 1.0, 0.5]
    assert np.isnan(values[3]).all()
