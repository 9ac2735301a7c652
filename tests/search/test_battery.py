"""One battery for every objective, kernel and backend: equal to brute force, and speculation equal to the plain
form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf.gp import pool as pool_module
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, resolve_kernel
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.objectives.target_basis import TargetBasisBlock
from itl_hf.search import speculative as speculate
from itl_hf.search import verification as verify
from itl_hf.search.greedy import plain_greedy
from itl_hf.search.speculative import speculative_greedy
from itl_hf.selection.baselines.nearest import Density
from tests.oracle import objectives as oracle
from tests.search.kernels import KERNELS

#: Also the objective of a baseline, which goes through the same search.
SEARCHED = OBJECTIVES | {Density.name: lambda gp: Density(gp, beta=1.0)}


def make(seed, rows, dimension, targets, duplicates=0):
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(3, dimension, generator=generator, dtype=torch.float64)
    draw = lambda count: (
        torch.randn(count, 3, generator=generator, dtype=torch.float64) @ common
        + torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    )
    pool = draw(rows)
    if duplicates:
        to, of = torch.randint(rows, (2, duplicates), generator=generator)
        pool[to] = pool[of]
    return pool, draw(targets)


def make_gp(pool, targets, kernel, noise_std, target_noise_std):
    prepared = Pool(pool, Standardization("scale"))
    return prepared, GaussianProcess(kernel, prepared.preparation(targets), noise_std, target_noise_std)


def small_search(monkeypatch, block_rows=16, breadth=8, picks=4):
    """Forces many blocks, few candidates and short runs, so that a small problem goes through every branch."""
    monkeypatch.setattr(pool_module, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(speculate, "FEWEST_CANDIDATES", breadth)
    monkeypatch.setattr(speculate, "FIRST_PICKS", picks)
    monkeypatch.setattr(verify, "MAX_SUSPECTS", 12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", [0.1, 1.0])
@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_plain_greedy_equals_brute_force(objective, kernel, noise_std, ratio):
    pool, targets = make(1, rows=24, dimension=5, targets=4, duplicates=6)
    prepared, gp = make_gp(pool, targets, KERNELS[kernel], noise_std, ratio * noise_std)
    selection = plain_greedy(prepared, OBJECTIVES[objective](gp), 8)
    rows = torch.cat([prepared.rows(range(24)), gp.targets])
    matrix = KERNELS[kernel].cross(rows, rows).numpy()
    matrix[np.diag_indices(28)] = KERNELS[kernel].diagonal(rows).numpy()
    picks, gains = oracle.greedy(objective, matrix, range(24), range(24, 28), 8, noise_std, ratio * noise_std)
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("objective", SEARCHED)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("noise_std", "projection_bytes"), [(1e-4, 2**20), (0.1, 2**20), (1.0, 0), (10.0, 2**20)])
def test_speculation_equals_the_plain_form(objective, kernel, noise_std, projection_bytes, monkeypatch):
    small_search(monkeypatch)
    monkeypatch.setattr(
        verify, "PROJECTION_BYTES", projection_bytes
    )  # with 0, projections of rejected picks are computed again
    pool, targets = make(2, rows=150, dimension=12, targets=5, duplicates=60)
    prepared, gp = make_gp(pool, targets, KERNELS[kernel], noise_std, noise_std)
    plain = plain_greedy(prepared, SEARCHED[objective](gp), 40)
    fast = speculative_greedy(prepared, SEARCHED[objective](gp), 40)
    if objective == "ctl" and noise_std == 1e-4:
        return  # correlations of rows without variance are rounding: gaps do not exceed it
    assert fast.indices == plain.indices
    largest = float(KERNELS[kernel].diagonal(prepared.rows(range(150))).max())
    rounding = 4e-15 * largest / noise_std**2 * max(1.0, float(KERNELS[kernel].diagonal(gp.targets).sum()))
    np.testing.assert_allclose(fast.gains, plain.gains, rtol=1e-6, atol=1e-9 + rounding)


def test_a_gpytorch_kernel_is_the_kernel_it_stands_for():
    gpytorch = pytest.importorskip("gpytorch")
    theirs = gpytorch.kernels.RBFKernel().double()
    theirs.lengthscale = 1.3
    pool, targets = make(3, rows=60, dimension=6, targets=3)
    picks = [
        speculative_greedy(prepared, OBJECTIVES["itl"](gp), 15).indices
        for prepared, gp in (
            make_gp(pool, targets, kernel, 0.5, 0.5) for kernel in (resolve_kernel(theirs), RBF(1.3, on="distance"))
        )
    ]
    assert picks[0] == picks[1]


def test_a_pass_with_a_larger_error_than_assumed_is_repeated(monkeypatch):
    small_search(monkeypatch, picks=16)
    pool, targets = make(4, rows=150, dimension=12, targets=5)
    prepared, gp = make_gp(pool, targets, KERNELS["linear"], 0.5, 0.5)
    plain = plain_greedy(prepared, OBJECTIVES["vtl"](gp), 30)
    calls = []

    def too_small(verifier, candidates):
        calls.append(verifier)
        return torch.full((2,), 1e-12, dtype=torch.float64)

    calm = speculative_greedy(prepared, OBJECTIVES["vtl"](gp), 30)
    monkeypatch.setattr(verify.PoolVerifier, "_initial_error", too_small)
    hasty = speculative_greedy(prepared, OBJECTIVES["vtl"](gp), 30)
    assert calls
    assert hasty.indices == calm.indices == plain.indices
    assert hasty.passes > calm.passes


@pytest.mark.parametrize("objective", ["itl", "vtl"])
@pytest.mark.parametrize(("noise_std", "projection_bytes"), [(0.1, 2**20), (1.0, 0), (10.0, 2**20)])
def test_the_target_basis_gives_the_same_picks(objective, noise_std, projection_bytes, monkeypatch):
    small_search(monkeypatch)
    monkeypatch.setattr(verify, "PROJECTION_BYTES", projection_bytes)
    calls, project = [], TargetBasisBlock.project
    monkeypatch.setattr(TargetBasisBlock, "project", lambda *arguments: calls.append(1) or project(*arguments))
    pool, targets = make(5, rows=150, dimension=24, targets=5, duplicates=60)
    prepared, gp = make_gp(pool, targets, KERNELS["linear"], noise_std, noise_std)
    picks = []
    for uses_basis in (False, True):
        monkeypatch.setattr(verify, "is_cheaper", lambda basis, num_picks, uses_basis=uses_basis: uses_basis)
        process = OBJECTIVES[objective](gp)
        for row in prepared.rows([3, 77, 120]):  # rows that were trained on before
            process.observe(row)
        picks.append(speculative_greedy(prepared, process, 30).indices)
        assert bool(calls) == uses_basis
    assert picks[0] == picks[1]


@pytest.mark.parametrize("objective", ["itl", "vtl", "undirected", "information_density"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_the_bound_of_a_segment_is_above_every_score_in_it(objective, kernel):
    pool, targets = make(6, rows=80, dimension=12, targets=4)
    prepared, gp = make_gp(pool, targets, KERNELS[kernel], 0.3, 0.3)
    rows, process = prepared.rows(range(80)), SEARCHED[objective](gp)
    stats, tables = process.initial_state(rows)
    for row in rows[:10]:
        process.observe(row)
    observations = process.observations(0, 10)
    projections = process.project(rows, tables, observations)
    prefix_mask = (
        torch.arange(10) < torch.tensor([4, 5, 10])[:, None]
    ).double()  # segments end after 4, 5 and 10 picks
    best, after = process.optimistic_stats(stats, projections, observations, prefix_mask)
    trajectory = process.trajectory(stats, projections, observations)  # (k, 11, B)
    bounds = process.score(best, 0)
    for segment, steps in enumerate((range(4), range(4, 5), range(5, 10))):
        for step in steps:
            assert bool((process.score(trajectory[:, step], 0) <= bounds[segment] + 1e-9).all())
    torch.testing.assert_close(after[:, -1], trajectory[:, -1])
    torch.testing.assert_close(process.update(stats, projections, observations), trajectory[:, -1])
