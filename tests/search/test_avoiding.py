"""ITL with prompts to avoid: equal to brute force, equal in both searches, and ITL where nothing is avoided."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf import ITL, VTL, Avoid, SelectionConstraints, StopWhen, select_rows, select_rows_per_target
from itl_hf.objectives.avoiding_itl import AvoidingITL
from itl_hf.objectives.itl import ITL as PlainITL
from itl_hf.search import verification as verify
from itl_hf.search.greedy import plain_greedy
from itl_hf.search.speculative import speculative_greedy
from tests.oracle.gaussian_process import information_gain
from tests.search.kernels import KERNELS
from tests.search.test_battery import make, make_gp, small_search


def brute_force(kernel, num_rows, targets, avoided, num_examples, noises, weight):
    """Picks and gains of exact greedy by conditioning dense matrices from scratch; ties to the lowest row number."""
    picks, gains = [], []
    variances = [noise**2 for noise in noises]
    for _ in range(num_examples):
        free = [row for row in range(num_rows) if row not in picks]
        scores = np.array([
            information_gain(kernel, row, targets, picks, *variances)
            - weight * information_gain(kernel, row, avoided, picks, *variances)
            for row in free
        ])  # fmt: skip
        best = int(np.flatnonzero(scores >= scores.max() - 1e-9 * abs(scores.max()) - 1e-11)[0])
        picks.append(free[best])
        gains.append(scores[best])
    return picks, np.array(gains)


def problem(seed, rows, dimension, kernel, noise_std, ratio, duplicates, num_avoided=3):
    pool, prompts = make(seed, rows=rows, dimension=dimension, targets=4 + num_avoided, duplicates=duplicates)
    prepared, gp = make_gp(pool, prompts, KERNELS[kernel], noise_std, ratio * noise_std)
    both = gp.targets
    return prepared, dataclasses.replace(gp, targets=both[:4]), dataclasses.replace(gp, targets=both[4:])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("noise_std", "ratio", "weight"), [(0.1, 1.0, 1.0), (1.0, 0.3, 0.5), (1.0, 1.0, 3.0)])
def test_plain_greedy_equals_brute_force(kernel, noise_std, ratio, weight):
    prepared, gp, avoided = problem(1, 24, 5, kernel, noise_std, ratio, duplicates=6)
    selection = plain_greedy(prepared, AvoidingITL(gp, avoided, weight), 8)
    rows = torch.cat([prepared.rows(range(24)), gp.targets, avoided.targets])
    matrix = KERNELS[kernel].cross(rows, rows).numpy()
    matrix[np.diag_indices(len(rows))] = KERNELS[kernel].diagonal(rows).numpy()
    noises = noise_std, ratio * noise_std
    picks, gains = brute_force(matrix, 24, range(24, 28), range(28, 31), 8, noises, weight)
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("noise_std", "projection_bytes"), [(0.1, 2**20), (1.0, 0), (10.0, 2**20)])
@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_speculation_equals_the_plain_form(kernel, noise_std, projection_bytes, weight, monkeypatch):
    small_search(monkeypatch)
    monkeypatch.setattr(verify, "PROJECTION_BYTES", projection_bytes)
    prepared, gp, avoided = problem(2, 150, 12, kernel, noise_std, 1.0, duplicates=60)
    plain = plain_greedy(prepared, AvoidingITL(gp, avoided, weight), 40)
    fast = speculative_greedy(prepared, AvoidingITL(gp, avoided, weight), 40)
    assert fast.indices == plain.indices
    np.testing.assert_allclose(fast.gains, plain.gains, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("noise_std", [0.3, 3.0])
def test_the_bound_of_a_segment_is_above_every_score_in_it(kernel, noise_std):
    prepared, gp, avoided = problem(6, 80, 12, kernel, noise_std, 1.0, duplicates=0)
    rows, process = prepared.rows(range(80)), AvoidingITL(gp, avoided, 1.5)
    stats, tables = process.initial_state(rows)
    for row in rows[:10]:
        process.observe(row)
    observations = process.observations(0, 10)
    projections = process.project(rows, tables, observations)
    prefix_mask = (torch.arange(10) < torch.tensor([4, 5, 10])[:, None]).double()
    best, after = process.optimistic_stats(stats, projections, observations, prefix_mask)
    trajectory = process.trajectory(stats, projections, observations)  # (3, 11, B)
    for quality in (1.0, 0.1):
        bounds = process.score(best, 0, quality)
        for segment, steps in enumerate((range(4), range(4, 5), range(5, 10))):
            for step in steps:
                assert bool((process.score(trajectory[:, step], 0, quality) <= bounds[segment] + 1e-9).all())
    torch.testing.assert_close(after[:, -1], trajectory[:, -1])


def features(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), weight=st.floats(0.05, 4), kernel=st.sampled_from(["linear", "rbf"]))
def test_properties(seed, weight, kernel):
    pool, targets, avoided = features(seed, (40, 6)), features(seed + 1, (2, 6)), features(seed + 2, (3, 6))
    options = {"kernel": kernel, "shortlist": None}
    today = select_rows(pool, targets, 8, acquisition=ITL(noise_std=0.7), **options)
    for nothing in (None, Avoid(avoided, weight=0), Avoid(avoided[:0])):
        same = select_rows(pool, targets, 8, acquisition=ITL(noise_std=0.7, avoid=nothing), **options)
        assert same.indices.tolist() == today.indices.tolist()
        assert same.gains.tolist() == today.gains.tolist()
    picked = select_rows(pool, targets, 8, acquisition=ITL(noise_std=0.7, avoid=Avoid(avoided, weight)), **options)
    # The first pick is the best row: no other has a larger difference.
    about_targets = select_rows(pool, targets, 1, acquisition=ITL(noise_std=0.7), **options).gains[0]
    assert picked.gains[0] <= about_targets + 1e-9
    # Prompts to avoid that are the targets, with weight 1, cancel: no row is worth anything.
    cancelled = select_rows(pool, targets, 8, acquisition=ITL(noise_std=0.7, avoid=Avoid(targets)), **options)
    np.testing.assert_allclose(cancelled.gains, 0, atol=1e-9)
    # The order of the prompts does not matter.
    turned = select_rows(
        pool, targets, 8, acquisition=ITL(noise_std=0.7, avoid=Avoid(avoided[::-1], weight)), **options
    )
    np.testing.assert_allclose(turned.gains, picked.gains, atol=1e-9)


def test_rows_that_tell_more_about_what_is_avoided_come_last():
    pool, targets, avoided = features(1, (30, 6)), features(2, (2, 6)), features(3, (3, 6))
    acquisition = ITL(noise_std=1.0, avoid=Avoid(avoided, weight=2.0))
    with pytest.warns(UserWarning, match="tell more about the prompts to avoid"):
        whole = select_rows(pool, targets, 30, acquisition=acquisition, kernel="linear", shortlist=None)
    first_loss = int(np.flatnonzero(whole.gains < 0)[0])
    constraints = SelectionConstraints(stop_when=StopWhen(gain=1e-9))
    stopped = select_rows(
        pool, targets, 30, acquisition=acquisition, kernel="linear", shortlist=None, constraints=constraints
    )
    assert stopped.indices.tolist() == whole.indices[:first_loss].tolist()


def test_the_picks_together_tell_less_about_what_is_avoided():
    source = np.random.default_rng(5)
    group = source.integers(0, 3, 300)  # of the third group are the prompts to avoid
    pool = np.eye(8)[group] + 0.5 * np.eye(8)[3] + 0.15 * source.normal(size=(300, 8))
    targets = np.eye(8)[[0, 2]] + 0.5 * np.eye(8)[3]
    avoided = np.eye(8)[[2, 2]] + 0.5 * np.eye(8)[3]
    shares = []
    for avoid in (None, Avoid(avoided, weight=1.0)):
        acquisition = ITL(noise_std=2.0, avoid=avoid)
        picked = select_rows(pool, targets, 40, acquisition=acquisition, shortlist=None, standardize="scale")
        shares.append(float((group[picked.indices] == 2).mean()))
    assert shares[0] > 0.2
    assert shares[1] < shares[0] / 2


def test_rows_trained_on_before_budgets_and_shortlists():
    pool, targets, avoided = features(1, (80, 6)), features(2, (3, 6)), features(3, (2, 6))
    acquisition = ITL(noise_std=0.7, avoid=Avoid(avoided))
    whole = select_rows(pool, targets, 12, acquisition=acquisition, shortlist=None)
    first = select_rows(pool, targets, 5, acquisition=acquisition, shortlist=None)
    rest = select_rows(pool, targets, 7, acquisition=acquisition, shortlist=None, already_selected=first.indices)
    assert [*first.indices, *rest.indices] == whole.indices.tolist()
    listed = select_rows(pool, targets, 12, acquisition=acquisition, shortlist=80)
    assert sorted(listed.indices) == sorted(whole.indices)
    assert whole.record.acquisition_options["avoid"]["weight"] == 1.0
    with pytest.raises(ValueError, match="features the record does not hold"):
        whole.record.acquisition()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VTL(avoid=Avoid([[1.0]])), "avoid= is for acquisition 'itl'"),
        (lambda: Avoid([[1.0]], weight=-1.0), "weight of avoid must be 0 or a positive"),
        (lambda: Avoid([[1.0]], weight=float("nan")), "weight of avoid must be 0 or a positive"),
        (
            lambda: select_rows(np.eye(3), np.eye(3)[:1], 1, acquisition=ITL(avoid=Avoid(np.eye(2)))),
            "features of 2 numbers, and the pool's rows have 3",
        ),
        (
            lambda: select_rows(np.eye(3), np.eye(3)[:1], 1, acquisition=ITL(avoid=Avoid(np.eye(3) * np.nan))),
            "row 0 of `avoid` holds NaN",
        ),
        (
            lambda: select_rows_per_target(np.eye(3), np.eye(3), 1, acquisition=ITL(avoid=Avoid(np.eye(3)))),
            "no form for one target at a time",
        ),
    ],
)
def test_what_cannot_be_avoided_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_weight_the_scores_are_those_of_itl():
    prepared, gp, avoided = problem(4, 60, 8, "linear", 0.5, 1.0, duplicates=0)
    rows = prepared.rows(range(60))
    ours, plain = AvoidingITL(gp, avoided, 0.0), PlainITL(gp)
    gains = [one.gain(one.score(one.initial_state(rows)[0], 0)) for one in (ours, plain)]
    torch.testing.assert_close(*gains)
