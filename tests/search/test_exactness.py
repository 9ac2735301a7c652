"""Picks against exact greedy selection in 80 decimal digits, over sixteen orders of magnitude of noise and of features:
equal, or the selection says by how much they may not be, or it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search import speculative
from itl_hf.search.exactness import LEAST_NOISE, MOST_NOISE, TOLERANCE
from itl_hf.search.greedy import plain_greedy
from itl_hf.search.speculative import speculative_greedy
from tests.oracle import high_precision
from tests.search.kernels import KERNELS

PICKS = 4


def world(seed, scale, rows=11, dimension=6, targets=3):
    """Rows with copies of each other and, unless there are many rows, of a target."""
    generator = torch.Generator().manual_seed(seed)
    pool, target_rows = (torch.randn(count, dimension, generator=generator).double() for count in (rows, targets))
    pool[4], pool[7] = pool[2], pool[6]
    if rows < 100:
        target_rows[0] = pool[3]
    return pool * scale, target_rows * scale


def largest_variance(kernel, pool):
    return float(KERNELS[kernel].diagonal(pool).max())


@settings(max_examples=150, deadline=None)
@given(
    objective=st.sampled_from(sorted(OBJECTIVES)),
    kernel=st.sampled_from(sorted(KERNELS)),
    noise=st.floats(-8, 8),
    scale=st.floats(-8, 8),
    ratio=st.sampled_from([1.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_picks_are_the_best_or_the_search_says_so(objective, kernel, noise, scale, ratio, seed):
    noise_std = 10.0**noise
    pool, targets = world(seed, 10.0**scale)
    relative = noise_std / largest_variance(kernel, pool) ** 0.5
    gp = GaussianProcess(KERNELS[kernel], targets, noise_std, ratio * noise_std)
    if not LEAST_NOISE <= relative <= MOST_NOISE / 1.01:
        if not 0.98 * LEAST_NOISE < relative < 1.02 * MOST_NOISE:
            with pytest.raises(ValueError, match=r"noise_std is .* and must be between"):
                plain_greedy(Pool(pool), OBJECTIVES[objective](gp), PICKS)
        return
    picks = plain_greedy(Pool(pool), OBJECTIVES[objective](gp), PICKS)
    process = high_precision.Process(kernel, pool.tolist(), targets.tolist(), noise_std, ratio * noise_std)
    shares = high_precision.shortfalls(process, objective, picks.indices)
    for share, uncertainty in zip(shares, picks.uncertainties, strict=True):
        assert share <= uncertainty or uncertainty == 1
    fast = speculative_greedy(Pool(pool), OBJECTIVES[objective](gp), PICKS)
    if max(picks.uncertainties) <= TOLERANCE:
        assert fast.indices == picks.indices
        assert max(fast.uncertainties) <= TOLERANCE


#: Noises relative to the prior standard deviation at which all of these picks are certain.
WELL_RESOLVED = {"itl": 1e-4, "vtl": 1e-2, "mean_marginal_itl": 1e-3, "ctl": 1e-3, "undirected": 1e-5}


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("kernel", ["linear", "rbf", "exponential cosine", "laplace"])
@pytest.mark.parametrize(("scale", "relative"), [(1e-8, 1.0), (1e8, 1.0), (1.0, None), (1e-6, 1e4), (1e6, 1e7)])
def test_picks_are_certain_in_the_domain(objective, kernel, scale, relative):
    pool, targets = world(1, scale)
    relative = WELL_RESOLVED[objective] if relative is None else relative
    noise_std = relative * largest_variance(kernel, pool) ** 0.5
    gp = GaussianProcess(KERNELS[kernel], targets, noise_std, noise_std)
    picks = plain_greedy(Pool(pool), OBJECTIVES[objective](gp), PICKS)
    assert max(picks.uncertainties) <= TOLERANCE
    process = high_precision.Process(kernel, pool.tolist(), targets.tolist(), noise_std, noise_std)
    assert max(high_precision.shortfalls(process, objective, picks.indices)) <= 1e-8


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize(
    ("kernel", "scale", "noise_std"),
    [("rbf", 1.0, 1e-6), ("rbf", 1.0, 1e6), ("linear", 1e-8, 1.0), ("linear", 1e8, 1e4), ("cosine", 1e-20, 1.0)],
)
def test_a_pool_that_is_read_in_passes_gives_the_same_picks(objective, kernel, scale, noise_std, monkeypatch):
    """Statistics beyond the range of 32-bit numbers, and rows whose norms underflow there."""
    monkeypatch.setattr(speculative, "FEWEST_CANDIDATES", 16)
    pool, targets = world(2, scale, rows=200, dimension=40)
    gp = GaussianProcess(KERNELS[kernel], targets, noise_std, noise_std)
    plain = plain_greedy(Pool(pool), OBJECTIVES[objective](gp), 12)
    fast = speculative_greedy(Pool(pool), OBJECTIVES[objective](gp), 12)
    num_certain = next((at for at, share in enumerate(plain.uncertainties) if share > TOLERANCE), 12)
    assert num_certain > (0 if objective == "ctl" else 2)  # CTL does not resolve copies of picks here
    assert fast.indices[:num_certain] == plain.indices[:num_certain]
