"""The theory's quantities against dense float64 matrices, and the inequalities that must hold between them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from itl_hf.gp import attainable, theory
from itl_hf.gp import pool as pool_module
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Cosine, Laplace, Linear, Sum, resolve_kernel
from itl_hf.gp.noise import effective_rank
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search.greedy import plain_greedy
from tests.oracle import gaussian_process as oracle

LINEAR = Linear()
KERNELS = {
    "linear": Linear(),
    "rbf": RBF(0.4),
    "laplace": Laplace(),
    "callable": resolve_kernel(lambda a, b: 1 + a @ b.T),
}
NOISES = [1e-4, 0.3, 1.0, 30.0]
SHAPES = {"few rows": (5, 12), "as many rows": (12, 12), "many rows": (60, 6)}


def make(rows, dimension, targets=4, seed=0, kernel=LINEAR, noise_std=1.0, duplicates=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    features = draw(rows)
    if duplicates:
        to, of = torch.randint(rows, (2, duplicates), generator=generator)
        features[to] = features[of]
    pool = Pool(features, Standardization("scale", unit=True))
    return pool, GaussianProcess(kernel, pool.preparation(draw(targets)), noise_std, noise_std)


def dense(pool, gp, extra=None):
    """Kernel matrix of pool, extra rows and targets, with the three index lists."""
    extra = torch.zeros(0, pool.dimension, dtype=torch.float64) if extra is None else extra
    rows = torch.cat([pool.rows(range(pool.num_rows)), extra, gp.targets])
    matrix = gp.kernel.cross(rows, rows).numpy()
    matrix[np.diag_indices(len(rows))] = gp.kernel.diagonal(rows).numpy()
    ends = np.cumsum([pool.num_rows, len(extra), len(gp.targets)])
    return matrix, [list(part) for part in np.split(np.arange(ends[-1]), ends[:-1])]


def noise_free(matrix, queries, observed):
    cross = matrix[np.ix_(observed, queries)]
    inverse = np.linalg.pinv(matrix[np.ix_(observed, observed)], rcond=1e-10, hermitian=True)
    return np.diag(matrix[np.ix_(queries, queries)] - cross.T @ inverse @ cross)


def noisy(matrix, queries, observed, noise_std):
    return np.diag(oracle.conditional_covariance(matrix, queries, observed, noise_std**2))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise_std", NOISES)
def test_attainable_variance_equals_dense_conditioning(kernel, shape, noise_std, monkeypatch):
    monkeypatch.setattr(pool_module, "BLOCK_ROWS", 16)
    pool, gp = make(*SHAPES[shape], kernel=KERNELS[kernel], noise_std=noise_std, duplicates=2)
    bounds = attainable.attainable_variance(pool, gp)
    matrix, (rows, _, targets) = dense(pool, gp)
    whole = noisy(matrix, targets, rows, noise_std)
    np.testing.assert_allclose(bounds.whole_pool, whole, atol=1e-7)
    np.testing.assert_allclose(bounds.irreducible, np.minimum(noise_free(matrix, targets, rows), whole), atol=1e-7)
    deviations = np.sqrt(np.diag(matrix))
    correlation = (matrix / np.outer(deviations, deviations))[np.ix_(rows, targets)]
    np.testing.assert_allclose(bounds.reach, correlation.max(0), atol=1e-6)
    np.testing.assert_allclose(bounds.prior, np.diag(matrix)[targets])
    among = (matrix / np.outer(deviations, deviations))[np.ix_(rows, rows)] - 2 * np.eye(len(rows))
    assert bounds.usual_reach == pytest.approx(np.quantile(among.max(0), 0.05), abs=1e-3)
    assert (bounds.rows, bounds.exact) == (pool.num_rows, True)
    assert bounds.pool_rank == pytest.approx(effective_rank(pool.rows(rows), gp.kernel))
    assert bounds.target_rank == pytest.approx(effective_rank(gp.targets, gp.kernel))


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_known_before_count_as_answered(kernel):
    pool, gp = make(6, 12, kernel=KERNELS[kernel])
    known = torch.cat([gp.targets[:1], torch.ones(1, 12, dtype=torch.float64)])
    matrix, (rows, extra, targets) = dense(pool, gp, known)
    bounds = attainable.attainable_variance(pool, gp, observed_rows=known)
    np.testing.assert_allclose(bounds.irreducible, noise_free(matrix, targets, rows + extra), atol=1e-8)
    np.testing.assert_allclose(bounds.whole_pool, noisy(matrix, targets, rows + extra, 1.0), atol=1e-8)
    assert bounds.irreducible[0] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_some_of_the_rows_give_upper_bounds_between_the_exact_bound_and_the_picks(kernel):
    pool, gp = make(200, 24, kernel=KERNELS[kernel])
    picks = plain_greedy(pool, OBJECTIVES["itl"](gp), 6).indices
    exact = attainable.attainable_variance(pool, gp)
    bound = attainable.attainable_variance(pool, gp, include=picks, most_rows=30, most_landmarks=30)
    left = theory.convergence(pool, picks, gp).target_variance[-1]
    assert (bound.exact, exact.exact) == (False, True)
    assert len(picks) < bound.rows <= 30
    for name in ("irreducible", "whole_pool"):
        assert (getattr(exact, name) <= getattr(bound, name) + 1e-9).all()
        assert (getattr(bound, name) <= left + 1e-9).all()
    assert (bound.whole_pool < left - 1e-3).any()
    np.testing.assert_array_equal(exact.reach, bound.reach)


def test_features_of_many_dimensions_take_the_landmarks_path_with_the_same_result(monkeypatch):
    pool, gp = make(50, 8)
    direct = attainable.attainable_variance(pool, gp)
    monkeypatch.setattr(attainable, "LARGEST_DIMENSION", 4)
    other = attainable.attainable_variance(pool, gp)
    for name in ("irreducible", "whole_pool", "prior", "reach"):
        np.testing.assert_allclose(getattr(direct, name), getattr(other, name), atol=1e-8)
    assert direct.pool_rank == pytest.approx(other.pool_rank)


def test_what_lies_outside_the_pools_span_is_irreducible_and_nothing_else():
    features = torch.zeros(7, 4, dtype=torch.float64)
    features[:, :2] = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 2, 0, 0], [3, 0, 0, 4], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.float64)
    bounds = attainable.attainable_variance(Pool(features), GaussianProcess(Linear(), targets, 1e-6, 1.0))
    np.testing.assert_allclose(bounds.irreducible, [0, 16, 1, 0], atol=1e-12)
    np.testing.assert_allclose(bounds.reach[2:], 0)
    assert bounds.whole_pool[0] < 1e-9


def test_a_pool_of_one_row_has_attainable_variance_too():
    gp = GaussianProcess(Linear(), torch.eye(2, dtype=torch.float64), 1.0, 1.0)
    bounds = attainable.attainable_variance(Pool(torch.tensor([[2.0, 0.0]])), gp)
    np.testing.assert_allclose(bounds.irreducible, [0, 1], atol=1e-9)
    np.testing.assert_allclose(bounds.whole_pool, [0.2, 1])
    assert bounds.usual_reach == 0


def test_zero_rows_under_a_cosine_kernel_are_unrelated_to_all_but_themselves():
    features = torch.cat([torch.zeros(2, 3), torch.eye(3)]).double()
    bounds = attainable.attainable_variance(
        Pool(features), GaussianProcess(Cosine(), torch.ones(1, 3, dtype=torch.float64), 1.0, 1.0)
    )
    np.testing.assert_allclose(bounds.irreducible, 0, atol=1e-9)
    np.testing.assert_allclose(bounds.whole_pool, 0.5)


@pytest.mark.parametrize("function", [lambda a, b: a @ b.T, lambda a, b: -(a @ b.T)], ids=["low rank", "no kernel"])
def test_matrices_without_a_cholesky_factor_do_not_stop_a_selection(function):
    pool, gp = make(300, 3, kernel=resolve_kernel(function), noise_std=1e-9)
    bounds = attainable.attainable_variance(pool, gp)
    assert torch.isfinite(bounds.irreducible).all()
    np.testing.assert_allclose(bounds.irreducible, 0, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("picks", [3, 30])
def test_information_gain_equals_the_log_determinant(kernel, noise_std, picks):
    pool, gp = make(40, 6, kernel=KERNELS[kernel], noise_std=noise_std)
    matrix = dense(pool, gp)[0][:picks, :picks]
    expected = [0.0]
    for count in range(1, picks + 1):
        spectrum = np.linalg.eigvalsh(matrix[:count, :count]).clip(0)
        expected.append(np.log1p(spectrum / noise_std**2).sum() / 2)
    result = theory.information_gain(pool.rows(range(picks)), gp)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_chain_rule_the_gains_of_itl_sum_to_the_information_about_the_targets(kernel):
    pool, gp = make(40, 6, kernel=KERNELS[kernel], noise_std=0.5)
    selection = plain_greedy(pool, OBJECTIVES["itl"](gp), 12)
    rows = pool.rows(selection.indices)
    # I(y_A; y_D) = gamma_A + gamma_D - gamma of both: symmetric, and free of any greedy order.
    separate = theory.information_gain(rows, gp)[-1] + theory.information_gain(gp.targets, gp)[-1]
    both = theory.information_gain(torch.cat([gp.targets, rows]), gp)[-1]
    assert sum(selection.gains) == pytest.approx(float(separate - both), rel=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("with_known", [False, True])
def test_convergence_equals_dense_conditioning(kernel, noise_std, with_known):
    pool, gp = make(40, 6, kernel=KERNELS[kernel], noise_std=noise_std)
    known = torch.randn(2, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) if with_known else None
    picks = [7, 3, 3, 21, 39, 0, 1, 2]
    course = theory.convergence(pool, picks, gp, observed_rows=known)
    matrix, (_, extra, targets) = dense(pool, gp, known)
    expected = [noisy(matrix, targets, extra + picks[:count], noise_std) for count in range(len(picks) + 1)]
    np.testing.assert_allclose(course.target_variance, expected, atol=1e-7)
    np.testing.assert_allclose(course.total, np.sum(expected, axis=1), atol=1e-6)
    rows = pool.rows(picks) if known is None else torch.cat([known, pool.rows(picks)])
    np.testing.assert_allclose(course.information, theory.information_gain(rows, gp)[len(extra) :])
    assert course.reducible.shape == (9, 4)
    np.testing.assert_allclose(
        course.width(2.0, 0.1)[5],
        (2 + math.sqrt(2 * (float(course.information[5]) + math.log(10)))) * np.sqrt(expected[5].clip(0)),
        rtol=1e-5,
        atol=1e-3,
    )


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 25),
    dimension=st.integers(1, 12),
    kernel=st.sampled_from(sorted(KERNELS)),
    noise_std=st.sampled_from(NOISES),
    duplicates=st.integers(0, 5),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_variance_only_falls_and_never_below_its_floors(seed, rows, dimension, kernel, noise_std, duplicates, data):
    try:
        pool, gp = make(rows, dimension, 3, seed, KERNELS[kernel], noise_std, duplicates)
    except ValueError:  # so many duplicates that all rows are the same
        assume(False)
    picks = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=8, unique=True))
    course = theory.convergence(pool, picks, gp)
    bounds, slack = course.attainable, 1e-6
    assert (course.target_variance.diff(dim=0) <= slack).all()
    assert (course.information.diff() >= 0).all()
    assert (bounds.irreducible >= 0).all()
    assert (bounds.irreducible <= bounds.whole_pool).all()
    assert (bounds.whole_pool <= course.target_variance[-1] + slack).all()
    assert (bounds.whole_pool <= bounds.prior + slack).all()
    # One noise-free row at the target's reach leaves 1 - reach^2 of it, so the whole pool leaves no more.
    assert (bounds.irreducible <= bounds.prior * (1 - bounds.reach**2) + 1e-5).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("shape", [(4,), (25,), (25, 3)])
def test_posterior_mean_equals_the_dense_formula(kernel, noise_std, shape):
    pool, gp = make(40, 6, kernel=KERNELS[kernel], noise_std=noise_std)
    matrix, (_, _, targets) = dense(pool, gp)
    picks = list(range(shape[0]))
    gram = matrix[np.ix_(picks, picks)]
    # Values that the kernel can explain: with hardly any noise, others are amplified beyond comparison.
    values = gram @ np.random.default_rng(0).normal(size=shape)
    expected = matrix[np.ix_(targets, picks)] @ np.linalg.solve(gram + noise_std**2 * np.eye(len(picks)), values)
    result = theory.posterior_mean(
        pool.rows(picks),
        torch.tensor(values),
        gp.targets,
        gp.kernel,
        gp.noise_std,
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_posterior_mean_of_one_row_asked_twice_with_hardly_any_noise_is_the_mean_answer():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    result = theory.posterior_mean(rows, torch.tensor([1.0, 3.0]), rows[:1], Linear(), 1e-6)
    assert float(result) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("noise_std", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])
def test_functions_of_bounded_norm_stay_within_the_confidence_width(noise_std, ratio):
    pool, gp = make(60, 5, targets=8, noise_std=noise_std)
    generator = torch.Generator().manual_seed(1)
    weights = torch.nn.functional.normalize(torch.randn(5, 200, generator=generator, dtype=torch.float64), dim=0)
    rows = pool.rows(range(30))
    noise = torch.randn(30, 200, generator=generator, dtype=torch.float64)
    values = rows @ weights + ratio * noise_std * noise
    error = theory.posterior_mean(rows, values, gp.targets, Linear(), noise_std) - gp.targets @ weights
    width = theory.convergence(pool, range(30), gp).width(norm_bound=1.0, delta=0.1, noise_ratio=ratio)[-1]
    assert (error.abs() <= width[:, None]).all(0).double().mean() >= 0.9
    if ratio or noise_std > 1:
        assert (error.abs().mean(1) > 0.05 * width).all()  # a bound, not a platitude


@given(scale=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_the_confidence_width_has_the_unit_of_f(scale):
    pool, gp = make(20, 5, noise_std=0.3)
    scaled = GaussianProcess(Sum([Linear()], [scale**2]), gp.targets, scale * 0.3, scale * 0.3)
    one, other = (theory.convergence(pool, range(9), here).width(2.0) for here in (gp, scaled))
    np.testing.assert_allclose(other, scale * one, rtol=1e-6)


BAD = {
    "delta": (lambda: theory.confidence_factor(torch.zeros(1), 1.0, delta=0.0), "delta must lie between"),
    "norm": (lambda: theory.confidence_factor(torch.zeros(1), -1.0), "norm_bound must be 0 or positive"),
    "ratio": (lambda: theory.confidence_factor(torch.zeros(1), 1.0, noise_ratio=math.nan), "noise_ratio must be 0"),
    "noise": (
        lambda: theory.posterior_mean(torch.eye(3), torch.zeros(3), torch.eye(3), Linear(), 0.0),
        "noise_std must be a positive",
    ),
    "values": (
        lambda: theory.posterior_mean(torch.eye(3), torch.zeros(2), torch.eye(3), Linear(), 1.0),
        r"`values` has shape \(2,\)",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_numbers_are_refused_in_plain_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
