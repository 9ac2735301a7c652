"""Quality of rows and weights of targets under every objective and kernel: equal to brute force, to repeated targets,
and to the plain form of the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search import verification as verify
from itl_hf.search.greedy import plain_greedy
from itl_hf.search.speculative import speculative_greedy
from tests.oracle import weighted as oracle
from tests.search.kernels import KERNELS
from tests.search.test_battery import SEARCHED, make, small_search


def draw_numbers(seed, rows, targets):
    """Qualities between 0.01 and 1, a third of them 1, and weights between 0.1 and 10."""
    rng = np.random.default_rng(seed)
    quality = np.where(rng.random(rows) < 1 / 3, 1.0, 10 ** rng.uniform(-2, 0, rows))
    return torch.tensor(quality), torch.tensor(10 ** rng.uniform(-1, 1, targets))


def make_gp(pool, targets, kernel, noises, quality=None, weights=None):
    prepared = Pool(pool, Standardization("scale"), quality)
    return prepared, GaussianProcess(kernel, prepared.preparation(targets), *noises, weights)


def kernel_matrix(pool, gp):
    rows = torch.cat([pool.rows(range(pool.num_rows)), gp.targets])
    matrix = gp.kernel.cross(rows, rows).numpy()
    matrix[np.diag_indices(len(rows))] = gp.kernel.diagonal(rows).numpy()
    return matrix


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("parts", ["quality", "weights", "both", "noise-free targets"])
def test_plain_greedy_equals_brute_force(objective, kernel, noise_std, parts):
    pool, targets = make(1, rows=24, dimension=5, targets=4, duplicates=6)
    quality, weights = draw_numbers(2, 24, 4)
    target_noise_std = 0.0 if parts == "noise-free targets" else 0.5 * noise_std
    if target_noise_std == 0 and objective == "mean_marginal_itl":
        return  # the information of a repeated target has no bound
    quality, weights = (quality if parts != "weights" else None), (weights if parts != "quality" else None)
    prepared, gp = make_gp(pool, targets, KERNELS[kernel], (noise_std, target_noise_std), quality, weights)
    selection = plain_greedy(prepared, OBJECTIVES[objective](gp), 8)
    qualities, shares = (
        np.ones(size) if numbers is None else numbers.numpy() for numbers, size in ((quality, 24), (weights, 4))
    )
    matrix = kernel_matrix(prepared, gp)
    picks, gains = oracle.greedy(objective, matrix, 24, 8, noise_std, target_noise_std, qualities, shares)
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("objective", SEARCHED)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("noise_std", "projection_bytes"), [(0.1, 2**20), (1.0, 0), (10.0, 2**20)])
@pytest.mark.parametrize("replace", [False, True])
def test_speculation_equals_the_plain_form(objective, kernel, noise_std, projection_bytes, replace, monkeypatch):
    """Most rows are copies of others of another quality."""
    small_search(monkeypatch)
    monkeypatch.setattr(verify, "PROJECTION_BYTES", projection_bytes)
    pool, targets = make(2, rows=150, dimension=12, targets=5, duplicates=120)
    quality, weights = draw_numbers(3, 150, 5)
    prepared, gp = make_gp(pool, targets, KERNELS[kernel], (noise_std, noise_std), quality, weights)
    plain = plain_greedy(prepared, SEARCHED[objective](gp), 40, replace=replace)
    fast = speculative_greedy(prepared, SEARCHED[objective](gp), 40, replace=replace)
    assert fast.indices == plain.indices
    largest = float(KERNELS[kernel].diagonal(prepared.rows(range(150))).max())
    rounding = 4e-15 * largest / noise_std**2 * max(1.0, float(KERNELS[kernel].diagonal(gp.targets).sum()))
    # The distance of copies is the square root of a rounding error, and Laplace falls linearly with it.
    least = 1e-7 / min(noise_std, 1) ** 2 if kernel == "laplace" else 1e-9
    np.testing.assert_allclose(fast.gains, plain.gains, rtol=1e-6, atol=least + rounding)


def test_a_better_copy_is_not_dropped_as_a_tie(monkeypatch):
    """Rows that differ in nothing but quality: the good copy of each comes last, and is picked."""
    small_search(monkeypatch)
    rows, targets = make(3, rows=40, dimension=6, targets=3)
    pool, quality = torch.cat([rows, rows]), torch.cat([torch.full((40,), 0.2), torch.ones(40)]).double()
    prepared, gp = make_gp(pool, targets, KERNELS["linear"], (1.0, 1.0), quality)
    plain = plain_greedy(prepared, OBJECTIVES["itl"](gp), 20)
    assert speculative_greedy(prepared, OBJECTIVES["itl"](gp), 20).indices == plain.indices
    assert plain.indices[0] >= 40


@pytest.mark.parametrize("objective", ["itl", "vtl"])
def test_the_target_basis_gives_the_same_picks(objective, monkeypatch):
    small_search(monkeypatch)
    pool, targets = make(5, rows=150, dimension=24, targets=5, duplicates=60)
    quality, weights = draw_numbers(4, 150, 5)
    prepared, gp = make_gp(pool, targets, KERNELS["linear"], (0.5, 0.5), quality, weights)
    picks = []
    for uses_basis in (False, True):
        monkeypatch.setattr(verify, "is_cheaper", lambda basis, num_picks, uses_basis=uses_basis: uses_basis)
        process = OBJECTIVES[objective](gp)
        for number in (3, 77, 120):  # rows that were trained on before
            process.observe(prepared.rows([number])[0], float(quality[number]))
        picks.append(speculative_greedy(prepared, process, 30).indices)
    assert picks[0] == picks[1]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    objective=st.sampled_from(list(OBJECTIVES)),
    kernel=st.sampled_from(list(KERNELS)),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    noise_std=st.floats(0.2, 5),
    has_quality=st.booleans(),
)
def test_integer_weights_are_repeated_targets(seed, objective, kernel, counts, noise_std, has_quality):
    pool, targets = make(seed, rows=40, dimension=6, targets=len(counts), duplicates=8)
    quality = draw_numbers(seed, 40, 1)[0] if has_quality else None
    repeated_targets = targets.repeat_interleave(torch.tensor(counts), dim=0)
    results = []
    for rows, weights in ((targets, torch.tensor(counts).double()), (repeated_targets, None)):
        prepared, gp = make_gp(pool, rows, KERNELS[kernel], (noise_std, noise_std), quality, weights)
        results.append(speculative_greedy(prepared, OBJECTIVES[objective](gp), 6))
    by_weight, by_copies = results
    scale = sum(counts) if objective == "vtl" else 1
    np.testing.assert_allclose(by_weight.gains, by_copies.gains, rtol=1e-6, atol=1e-9 * scale)
    assert by_weight.indices == by_copies.indices


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    objective=st.sampled_from(["itl", "vtl", "mean_marginal_itl", "undirected"]),
    kernel=st.sampled_from(list(KERNELS)),
    tiny=st.sampled_from([1e-6, 1e-12, 1e-40, 1e-300]),
)
def test_rows_of_tiny_quality_are_picked_last(seed, objective, kernel, tiny):
    pool, targets = make(seed, rows=30, dimension=6, targets=3)
    quality = torch.ones(30, dtype=torch.float64)
    quality[::2] = tiny
    prepared, gp = make_gp(pool, targets, KERNELS[kernel], (1.0, 1.0), quality)
    picks = speculative_greedy(prepared, OBJECTIVES[objective](gp), 15).indices
    assert sorted(picks) == list(range(1, 30, 2))


def test_ctl_prefers_a_row_of_tiny_quality_only_to_negative_correlations():
    pool = torch.tensor([[1.0, 0.1], [0.9, 0.2], [-1.0, 0.1]])
    quality = torch.tensor([1e-12, 1.0, 1.0], dtype=torch.float64)
    gp = GaussianProcess(KERNELS["linear"], torch.tensor([[1.0, 0.0]]).double(), 1.0, 1.0)
    assert speculative_greedy(Pool(pool, quality=quality), OBJECTIVES["ctl"](gp), 2).indices == [1, 0]
