"""`noise_std="measured"`: the two correlations are those of the pool, and the noise is what the derivation says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from itl_hf import SelectionConstraints, select_rows
from itl_hf.gp.kernels import RBF
from itl_hf.gp.noise import MOST_NOISE_PER_PICK, effective_rank, measured_noise_std
from itl_hf.gp.pool import Pool
from itl_hf.selection.defaults import AUTO_STANDARDIZATION
from itl_hf.selection.per_target import select_rows_per_target

RANDOM = np.random.default_rng(0)
CENTRE = RANDOM.normal(size=24)
POOL = RANDOM.normal(size=(500, 24)) + np.where(np.arange(500) < 200, 1.0, 0.0)[:, None] * CENTRE
TARGETS = CENTRE + RANDOM.normal(size=(6, 24))


def expected_noise_std(num_examples, closed_rows=(), weights=None):
    """The rule in NumPy, from all correlations of the pool."""
    pool = Pool(torch.from_numpy(POOL), AUTO_STANDARDIZATION)
    targets = pool.prepare(torch.from_numpy(TARGETS))
    correlations = RBF(0.6).cross(targets, pool.rows(range(len(POOL)))).numpy()
    share = num_examples / effective_rank(targets, RBF(0.6), None if weights is None else torch.tensor(weights))
    open_rows = np.setdiff1d(np.arange(len(POOL)), closed_rows)
    near = np.average(np.sort(correlations[:, open_rows])[:, -round(share) :].mean(1), weights=weights)
    rival = np.average(np.quantile(correlations, 0.95, axis=1), weights=weights)
    return math.sqrt(max(1.0, share / (1 / rival - 1 / near) - (1 - near)))


@pytest.mark.parametrize("num_examples", [6, 40, 150])
def test_it_equals_the_rule_over_all_rows(num_examples):
    record = select_rows(POOL, TARGETS, num_examples, noise_std="measured").record
    assert record.noise_std == pytest.approx(expected_noise_std(num_examples), rel=1e-6)
    assert record.noise_rule.startswith("measured: ")
    picks = select_rows(POOL, TARGETS, num_examples, noise_std=record.noise_std).indices
    np.testing.assert_array_equal(select_rows(POOL, TARGETS, num_examples, noise_std="measured").indices, picks)


def test_rows_that_may_not_be_picked_are_not_near():
    closed_rows = list(range(0, 200, 2))
    constraints = SelectionConstraints(exclude=closed_rows)
    record = select_rows(POOL, TARGETS, 40, noise_std="measured", constraints=constraints).record
    assert record.noise_std == pytest.approx(expected_noise_std(40, closed_rows), rel=1e-6)
    assert record.noise_std != select_rows(POOL, TARGETS, 40, noise_std="measured").record.noise_std


def test_a_target_of_weight_two_counts_as_two():
    weights = [1.0, 2.0, 1.0, 1.0, 3.0, 1.0]
    weighted = select_rows(POOL, TARGETS, 40, noise_std="measured", target_weights=weights).record
    repeated = select_rows(POOL, np.repeat(TARGETS, np.int64(weights), axis=0), 40, noise_std="measured").record
    assert weighted.noise_std == pytest.approx(repeated.noise_std, rel=1e-6)
    assert weighted.noise_std == pytest.approx(expected_noise_std(40, weights=weights), rel=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "laplace", "exponential_cosine", "cosine"])
def test_every_kernel_has_a_finite_noise(kernel):
    assert 1 <= select_rows(POOL, TARGETS, 40, noise_std="measured", kernel=kernel).record.noise_std < 100


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0.01, 1e4))
def test_the_noise_is_finite_at_least_one_and_grows_with_the_rival(near, rival, share):
    noise_std, _ = measured_noise_std(near, rival, share)
    assert 1 <= noise_std <= max(1.0, math.sqrt(MOST_NOISE_PER_PICK * share))
    assert measured_noise_std(near, min(1.0, rival + 0.1), share)[0] >= noise_std


def test_one_target_at_a_time_refuses_it():
    with pytest.raises(ValueError, match="noise_std='measured' needs one selection for all targets"):
        select_rows_per_target(POOL, TARGETS, 3, noise_std="measured")
