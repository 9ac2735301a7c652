"""`quality` and `target_weights` of `select_rows` and `select_rows_per_target`, with all else that can be asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf import ITL, SelectionConstraints, StopWhen, select_rows, select_rows_per_target
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.noise import effective_rank
from itl_hf.gp.pool import Pool
from itl_hf.gp.theory import convergence, posterior_mean
from itl_hf.search import per_target
from itl_hf.selection import per_target as selection_per_target
from itl_hf.selection.baselines import LESS, Cosine
from tests.oracle import weighted as oracle
from tests.selection.baseline_cases import TEXTUAL, problem, texts_of

EXACT = {"standardize": False, "noise_std": 1.0}
WEIGHTS = np.array([3.0, 1.0, 0.25, 2.0])


def draw_quality(rows, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(rows) < 0.3, 1.0, 10 ** rng.uniform(-2, 0, rows))


def matrix_of(pool, targets, kernel):
    rows = torch.cat([pool, targets])
    return kernel.cross(rows, rows).numpy()


@pytest.fixture(scope="module")
def rows():
    return problem(3, 60)


@pytest.mark.parametrize("kernel", [Linear(), RBF(0.5)])
@pytest.mark.parametrize("known", ["none", "numbers", "features"])
@pytest.mark.parametrize("limit", ["none", "replace", "groups", "budget"])
def test_picks_gains_and_variances_equal_brute_force(rows, kernel, known, limit):
    pool, targets = rows
    quality, matrix = draw_quality(60), matrix_of(*rows, kernel)
    already_selected = {"none": None, "numbers": [7, 31], "features": pool[[7, 31]]}[known]
    labels, costs = [row % 3 for row in range(60)], np.arange(60) % 7 + 1.0
    constraints, free = {
        "none": (SelectionConstraints(), lambda row, picks: row not in picks),
        "replace": (SelectionConstraints(replace=True), lambda row, picks: True),
        "groups": (
            SelectionConstraints(groups=labels, group_shares=0.4),
            lambda row, picks: row not in picks and sum(pick % 3 == row % 3 for pick in picks) < 4,
        ),
        "budget": (
            SelectionConstraints(costs=costs, token_budget=50),
            lambda row, picks: row not in picks and costs[row] <= 50 - costs[picks].sum(),
        ),
    }[limit]
    blocked = [7, 31] if known == "numbers" and limit != "replace" else []
    qualities = quality.copy()
    if known == "features":  # the oracle has no rows of their own for them: they are rows 7 and 31, of quality 1
        qualities[[7, 31]] = quality[[7, 31]] = 1.0
    before = [] if known == "none" else [7, 31]
    expected, gains = oracle.greedy(
        "itl", matrix, 60, 10, 1.0, 1.0, qualities, WEIGHTS, before,
        lambda row, picks: row not in blocked and free(row, picks),
    )  # fmt: skip
    result = select_rows(
        pool, targets, 10, kernel=kernel, quality=quality, target_weights=WEIGHTS, already_selected=already_selected,
        constraints=constraints, **EXACT,
    )  # fmt: skip
    assert result.indices.tolist() == expected
    np.testing.assert_allclose(result.gains, gains, rtol=1e-6)
    variance = oracle.target_variance(matrix, 60, [*before, *expected], 1.0, qualities)
    np.testing.assert_allclose(result.target_variance, variance[len(before) :], rtol=1e-6, atol=1e-9)
    assert result.record.quality == {
        "smallest": quality.min(), "mean": pytest.approx(quality.mean()), "largest": quality.max()
    }  # fmt: skip
    assert result.record.target_weights["smallest"] == 0.25


@pytest.mark.parametrize("acquisition", ["itl", "vtl", "mean_marginal_itl", "ctl", "undirected", "round_robin", "dsir"])
def test_ones_are_the_same_as_nothing(rows, acquisition):
    options = {"acquisition": acquisition, **(texts_of(*rows) if acquisition in TEXTUAL else {})}
    plain = select_rows(*rows, 12, **options)
    ones = select_rows(*rows, 12, quality=[1] * 60, target_weights=torch.ones(4), **options)
    assert plain.indices.tolist() == ones.indices.tolist()
    assert plain.gains.tolist() == ones.gains.tolist()
    assert plain.target_variance.tolist() == ones.target_variance.tolist()
    assert plain.record == ones.record


@pytest.mark.parametrize("noise_std", ["auto", 0.7])
@pytest.mark.parametrize("acquisition", ["cosine", "round_robin", "information_density", "k_center", "random", "dsir",
                                         "bm25", "length_matched_random", LESS(subtasks="aabb"), "itl"])  # fmt: skip
def test_integer_weights_are_repeated_targets(rows, acquisition, noise_std):
    """Turns: as if the copies stood in the list in the order in which `turn_order` spreads them."""
    pool, targets = rows
    counts, order = [2, 1, 3, 1], [2, 0, 1, 2, 3, 0, 2]
    texts = texts_of(*rows)["texts"]
    named = isinstance(acquisition, str)
    results = []
    for numbers, weights in ((range(4), counts), (order, None)):
        of = acquisition if named else LESS(subtasks=[acquisition.subtasks[number] for number in numbers])
        results.append(
            select_rows(
                pool,
                targets[list(numbers)],
                20,
                acquisition=of,
                target_weights=weights,
                texts=(texts[0], [texts[1][number] for number in numbers]),
                **({"noise_std": noise_std} if named else {}),
            )
        )
    by_weight, by_copies = results
    assert by_weight.indices.tolist() == by_copies.indices.tolist()
    np.testing.assert_allclose(by_weight.gains, by_copies.gains, rtol=1e-6, atol=1e-12)
    assert by_weight.record.effective_rank == pytest.approx(by_copies.record.effective_rank)
    assert by_weight.record.noise_std == pytest.approx(by_copies.record.noise_std)


def test_stopping_by_variance_counts_weights(rows):
    pool, targets = rows
    constraints = SelectionConstraints(stop_when=StopWhen(variance_left=0.6))
    options = {"constraints": constraints, "kernel": "linear", **EXACT}
    by_weight = select_rows(pool, targets[:2], 40, target_weights=[3, 1], **options)
    by_copies = select_rows(pool, targets[[0, 0, 0, 1]], 40, **options)
    assert 1 < len(by_weight) == len(by_copies) < 40


@pytest.mark.filterwarnings("ignore:acquisition 'round_robin' does not use quality")
def test_a_continued_selection_is_one_longer_selection(rows):
    options = {"quality": draw_quality(60), "target_weights": WEIGHTS, "noise_std": 1.0}
    for acquisition in ("itl", "vtl", "round_robin"):
        whole = select_rows(*rows, 20, acquisition=acquisition, **options)
        first = select_rows(*rows, 12, acquisition=acquisition, **options)
        rest = select_rows(*rows, 8, acquisition=acquisition, already_selected=first.indices, **options)
        assert first.then(rest).indices.tolist() == whole.indices.tolist()
        np.testing.assert_allclose(first.then(rest).gains, whole.gains, rtol=1e-9)


def test_noise_free_targets_have_no_weights(rows):
    options = {"kernel": "linear", "standardize": False}
    picks = [
        select_rows(*rows, 12, acquisition=ITL(1.0, 0.0), target_weights=weights, **options)
        for weights in (None, WEIGHTS)
    ]
    assert picks[0].indices.tolist() == picks[1].indices.tolist()
    assert picks[0].gains.tolist() == picks[1].gains.tolist()


@pytest.mark.parametrize("acquisition", ["max_similarity", "less"])
def test_a_maximum_over_targets_refuses_weights(rows, acquisition):
    with pytest.raises(ValueError, match=f"'{acquisition}' has no use for target_weights: .*'round_robin'"):
        select_rows(*rows, 5, acquisition=acquisition, target_weights=WEIGHTS)
    assert len(select_rows(*rows, 5, acquisition=acquisition, target_weights=np.ones(4))) == 5


def test_a_ranking_says_that_it_does_not_use_quality(rows):
    plain = select_rows(*rows, 10, acquisition=Cosine(noise_std=1.0))
    with pytest.warns(UserWarning, match="'cosine' does not use quality to pick"):
        measured = select_rows(*rows, 10, acquisition=Cosine(noise_std=1.0), quality=draw_quality(60))
    assert plain.indices.tolist() == measured.indices.tolist()
    assert measured.gains.sum() < plain.gains.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": [1.0] * 59}, r"quality must hold one number for each of the 60 rows of the pool, .*\(59,\)"),
        ({"quality": 0.5}, r"quality must hold one number for each of the 60 rows"),
        ({"quality": [0.5] * 9 + [0.0] * 51}, "quality: row 9 has 0; every number must be above 0"),
        ({"quality": [0.5] * 9 + [-0.5] * 51}, "quality: row 9 has -0.5"),
        ({"quality": [0.5] * 9 + [1.01] * 51}, "quality: row 9 has 1.01"),
        ({"quality": [0.5] * 9 + [float("nan")] * 51}, "quality: row 9 has nan"),
        ({"quality": [0.5] * 9 + [None] * 51}, "quality: row 9 holds None, which is no number"),
        ({"quality": [0.5] * 9 + ["good"] * 51}, "quality: row 9 holds 'good', which is no number"),
        ({"quality": "score"}, "quality='score': here are no columns"),
        ({"target_weights": [1, 2, 3]}, r"target_weights must hold one number for each of the 4 targets"),
        ({"target_weights": [1, 0, 1, 1]}, "target_weights: target 1 has 0; every number must be positive and finite"),
        ({"target_weights": [1, 1, -2, 1]}, "target_weights: target 2 has -2"),
        ({"target_weights": [1, 1, 1, float("inf")]}, "target_weights: target 3 has inf"),
        ({"target_weights": [float("nan"), 1, 1, 1]}, "target_weights: target 0 has nan"),
    ],
)
def test_wrong_numbers_are_refused_by_row(rows, options, message):
    with pytest.raises(ValueError, match=message):
        select_rows(*rows, 5, **options)


@pytest.mark.parametrize("kernel", [Linear(), RBF(0.5)])
@pytest.mark.parametrize("breadth", ["float64", "float32", "whole pool"])
def test_each_target_alone_equals_brute_force(rows, kernel, breadth, monkeypatch):
    monkeypatch.setattr(per_target, "FLOAT64_CANDIDATES", 200 if breadth == "float64" else 8)
    monkeypatch.setattr(selection_per_target, "MOST_WHOLE", 10 if breadth == "whole pool" else 8192)
    pool, targets = rows
    quality = draw_quality(60)
    result = select_rows_per_target(pool, targets, 8, kernel=kernel, quality=quality, num_candidates=None, **EXACT)
    for number, target in enumerate(targets):
        matrix = matrix_of(pool, target[None], kernel)
        picks, gains = oracle.greedy("vtl", matrix, 60, 8, 1.0, 1.0, quality, np.ones(1))
        assert result.indices[number].tolist() == picks
        np.testing.assert_allclose(result.gains[number], gains, rtol=1e-6)
        variance = oracle.target_variance(matrix, 60, picks, 1.0, quality)[:, 0]
        np.testing.assert_allclose(result.target_variance[number], variance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel", [Linear(), RBF(0.5)])
def test_the_nearest_candidates_are_those_that_tell_most(rows, kernel):
    pool, targets = rows
    quality = draw_quality(60)
    few = select_rows_per_target(pool, targets, 1, kernel=kernel, quality=quality, num_candidates=1, **EXACT)
    everything = select_rows_per_target(pool, targets, 1, kernel=kernel, quality=quality, num_candidates=None, **EXACT)
    assert few.indices.tolist() == everything.indices.tolist()


@pytest.mark.parametrize("kernel", [Linear(), RBF(0.5)])
def test_attainable_variance_and_convergence_equal_brute_force(rows, kernel):
    pool, targets = rows
    quality, observed = draw_quality(60), pool[:5] + 1.0
    observed_quality = torch.tensor([0.1, 1.0, 0.5, 0.2, 0.9], dtype=torch.float64)
    prepared = Pool(pool, quality=torch.tensor(quality))
    gp = GaussianProcess(kernel, targets, 1.5, 1.5, torch.tensor(WEIGHTS))
    options = {"observed_rows": observed, "observed_quality": observed_quality}
    measured = attainable_variance(prepared, gp, **options)
    matrix = matrix_of(torch.cat([pool, observed]), targets, kernel)
    every = np.concatenate([quality, observed_quality.numpy()])
    noise = 1.5**2 / np.concatenate([every, np.ones(4)])
    whole = np.diag(oracle.conditional(matrix, [65, 66, 67, 68], list(range(65)), noise))
    np.testing.assert_allclose(measured.whole_pool, whole, rtol=1e-6, atol=1e-9)
    assert measured.target_rank == pytest.approx(effective_rank(targets, kernel, torch.tensor(WEIGHTS)))
    unweighted = attainable_variance(Pool(pool), gp, observed_rows=observed)
    np.testing.assert_allclose(measured.irreducible, unweighted.irreducible, atol=1e-6)
    picks = [3, 50, 3, 17]
    path = convergence(prepared, picks, gp, **options)
    variance = oracle.target_variance(matrix, 65, [60, 61, 62, 63, 64, *picks], 1.5, every)[5:]
    np.testing.assert_allclose(path.target_variance, variance, rtol=1e-6, atol=1e-9)
    answers = [60, 61, 62, 63, 64, *picks]
    gram = matrix[np.ix_(answers, answers)] / np.sqrt(np.outer(noise[answers], noise[answers]))
    assert float(path.information[-1]) == pytest.approx(0.5 * np.linalg.slogdet(np.eye(9) + gram)[1])
    values = torch.arange(9.0, dtype=torch.float64)
    mean = posterior_mean(
        torch.cat([observed, pool[picks]]), values, targets, kernel, 1.5, torch.tensor(every[answers])
    )
    solved = np.linalg.solve(matrix[np.ix_(answers, answers)] + np.diag(noise[answers]), values.numpy())
    np.testing.assert_allclose(mean, matrix[np.ix_([65, 66, 67, 68], answers)] @ solved, rtol=1e-8)


def test_effective_rank_by_weight_is_that_of_repeated_rows(rows):
    _, targets = rows
    for kernel in (Linear(), RBF(0.5)):
        repeated = targets[[0, 0, 1, 2, 2, 2, 3]]
        weights = torch.tensor([2.0, 1.0, 3.0, 1.0], dtype=torch.float64)
        assert effective_rank(targets, kernel, weights) == pytest.approx(effective_rank(repeated, kernel))
