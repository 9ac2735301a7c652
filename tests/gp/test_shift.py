"""Shift of targets: equal to a direct computation, the same in other coordinates, and silent on ordinary clusters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.pool import Pool
from itl_hf.gp.shift import FEWEST_TARGETS, MOST_TARGETS, NEAREST, measure_shift
from itl_hf.gp.standardization import Standardization

DIMENSION = 24


def measure(rows, targets, kernel=None, standardize=None):
    pool = Pool(torch.as_tensor(rows), standardize)
    prepared = pool.prepare(torch.as_tensor(targets))
    gp = GaussianProcess(kernel or RBF(0.6), prepared.double(), 1.0, 1.0)
    return measure_shift(pool, gp, attainable_variance(pool, gp).nearest)


def clusters(seed, num_clusters=6, rows_each=20, targets_each=4, offset=0.0, dimension=DIMENSION):
    """A pool of clusters and targets from the same clusters, all moved by `offset` in one direction."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_clusters, dimension))
    draw = lambda count: np.concatenate([centre + 0.4 * rng.normal(size=(count, dimension)) for centre in centres])
    direction = rng.normal(size=dimension)
    return draw(rows_each), draw(targets_each) + offset * direction / np.linalg.norm(direction)


def share_by_loops(rows, means, pool_mean):
    """The common share, its jackknife error and the number of groups, pair by pair."""
    offsets = rows - means
    count = len(rows)
    unit = [(mean - pool_mean) / np.linalg.norm(mean - pool_mean) for mean in means]
    likeness = {(a, b): max(0.0, unit[a] @ unit[b]) for a in range(count) for b in range(count)}

    def share(members):
        pairs = list(itertools.combinations(members, 2))
        weights = [1 - likeness[pair] for pair in pairs]
        common = sum(weight * offsets[a] @ offsets[b] for weight, (a, b) in zip(weights, pairs, strict=True))
        return common / sum(weights) / np.mean([offsets[a] @ offsets[a] for a in members])

    left_out = [share([a for a in range(count) if a != one]) for one in range(count)]
    error = np.sqrt((count - 1) * np.mean((np.array(left_out) - np.mean(left_out)) ** 2))
    return share(range(count)), error, count**2 / sum(value**2 for value in likeness.values())


def shift_by_loops(rows, targets):
    near = lambda row, others: sorted(others, key=lambda other: np.linalg.norm(rows[other] - row))[:NEAREST]
    nearest = [near(target, range(len(rows))) for target in targets]
    distinct = sorted(set(itertools.chain(*nearest)))
    theirs = [near(rows[one], [other for other in range(len(rows)) if other != one]) for one in distinct]
    mean = rows.mean(0)
    of_targets = share_by_loops(targets, np.array([rows[some].mean(0) for some in nearest]), mean)
    of_pool = share_by_loops(rows[distinct], np.array([rows[some].mean(0) for some in theirs]), mean)
    return (*of_targets, of_pool[0])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 3.0]), st.integers(1, 6))
def test_it_is_what_loops_over_pairs_give(seed, offset, num_clusters):
    rows, targets = clusters(seed, num_clusters, rows_each=40, targets_each=6, offset=offset)
    unit = lambda points: points / np.linalg.norm(points, axis=1, keepdims=True)  # nearest by RBF = by distance
    rows, targets = unit(rows), unit(targets)
    shift = measure(rows, targets)
    assert shift.targets == len(targets)
    # Neighbours are found in float32: a tie within its rounding could be decided otherwise, but random rows have none.
    np.testing.assert_allclose(
        (shift.common_share, shift.standard_error, shift.groups, shift.pool_share),
        shift_by_loops(rows, targets),
        atol=1e-9,
    )


@pytest.mark.parametrize("standardize", [None, Standardization("scale"), Standardization("dimensions", unit=True)])
@pytest.mark.parametrize("kernel", [RBF(0.6), Linear()])
def test_only_targets_that_were_moved_share_an_offset(kernel, standardize):
    for seed in range(3):
        ordinary, moved = (measure(*clusters(seed, offset=offset), kernel, standardize) for offset in (0.0, 4.0))
        assert ordinary.lower_bound < 0.05
        assert moved.lower_bound > 0.2
        assert abs(moved.pool_share) < 0.05
        assert moved.groups > 3


def test_targets_of_one_ordinary_cluster_are_not_shifted_however_far_it_is_from_the_pools_mean():
    rng = np.random.default_rng(0)
    far = 6 * rng.normal(size=DIMENSION)
    rows = np.concatenate([rng.normal(size=(300, DIMENSION)), far + 0.3 * rng.normal(size=(40, DIMENSION))])
    shift = measure(rows, far + 0.3 * rng.normal(size=(12, DIMENSION)), standardize=Standardization("scale"))
    assert shift.lower_bound < 0.05
    assert shift.groups < 2


def test_absent_clusters_differ_each_in_its_own_way():
    rows, targets = clusters(1, num_clusters=12)
    shift = measure(rows[:120], targets[24:], standardize=Standardization("dimensions", unit=True))  # clusters 0 to 5
    assert shift.lower_bound < 0.08


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000))
def test_order_scale_place_and_rotation_of_features_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    rows, targets = clusters(seed, offset=1.5)
    scale = Standardization("scale")
    expected = measure(rows, targets, standardize=scale)
    rotation = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0]
    changed = [
        (rows[rng.permutation(len(rows))], targets[rng.permutation(len(targets))]),
        (7.0 * rows + 3.0, 7.0 * targets + 3.0),
        (rows @ rotation, targets @ rotation),
    ]
    for pair in changed:
        actual = measure(*pair, standardize=scale)
        np.testing.assert_allclose(
            [actual.common_share, actual.standard_error, actual.pool_share, actual.groups],
            [expected.common_share, expected.standard_error, expected.pool_share, expected.groups],
            atol=1e-7,
        )


def test_it_is_the_same_every_time():
    rows, targets = clusters(3, rows_each=400, offset=1.0)
    assert measure(rows, targets) == measure(rows, targets)


def test_few_targets_say_nothing():
    rows, targets = clusters(0, offset=5.0)
    assert measure(rows, targets[: FEWEST_TARGETS - 1]) is None
    assert measure(rows, targets[:FEWEST_TARGETS]) is not None


def test_copies_do_not_break_it():
    rows, targets = clusters(0, offset=2.0)
    assert measure(rows, rows[:30]).common_share < 0.1  # every target is a row of the pool
    five_times = np.repeat(rows, 5, axis=0)  # every row has more copies than rows it is compared with
    assert measure(five_times, targets) is None  # no row differs from its nearest ones: there is no reference
    assert measure(five_times, five_times[:30]) is None
    same_targets = np.repeat(targets[:1], 8, axis=0)
    assert measure(rows, same_targets).common_share == 0.0  # they have the same nearest rows: no pair counts


def test_a_small_pool_and_many_targets():
    rows, targets = clusters(0, targets_each=100, offset=2.0)
    assert measure(rows, targets).targets == MOST_TARGETS
    assert measure(rows[:2], targets[:10]) is not None
    assert measure(rows[:1], targets[:10]) is None
