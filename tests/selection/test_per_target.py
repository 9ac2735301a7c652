"""`select_rows_per_target` against `select_rows` for one target after the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf import ITL, SelectionConstraints, select_rows
from itl_hf.gp.kernels import RBF
from itl_hf.selection import per_target
from itl_hf.selection.per_target import select_rows_per_target
from tests.selection.test_select_rows import problem


def one_by_one(pool, targets, num_examples, **options):
    """Indices, gains and target variances of a selection for each target, and how many of its picks are certain."""
    alone = [select_rows(pool, targets[row : row + 1], num_examples, **options) for row in range(len(targets))]
    return (
        np.stack([selection.indices for selection in alone]),
        np.stack([selection.gains for selection in alone]),
        np.stack([selection.target_variance[:, 0] for selection in alone]),
        [(selection.record.exactness or {"first": num_examples})["first"] for selection in alone],
    )


def assert_equal(together, alone, atol=1e-9, least_certain=None):
    """Compares the picks that `select_rows` is certain of: all of them, or at least so many for each target."""
    indices, gains, variance, *certain = alone
    num_certain = certain[0] if certain else [indices.shape[1]] * len(indices)
    assert min(num_certain) >= (indices.shape[1] if least_certain is None else least_certain)
    for row, count in enumerate(num_certain):
        assert together.indices[row, :count].tolist() == indices[row, :count].tolist()
        np.testing.assert_allclose(together.gains[row, :count], gains[row, :count], rtol=1e-5, atol=atol)
        np.testing.assert_allclose(
            together.target_variance[row, : count + 1], variance[row, : count + 1], rtol=1e-5, atol=atol
        )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("noise_std", [1e-4, 1e-2, 0.3, 1.0, 5.0, 1e3])
@pytest.mark.parametrize(("rows", "duplicates"), [(25, 0), (40, 20), (200, 60)])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_all_rows_as_candidates_equal_one_by_one(dtype, noise_std, rows, duplicates, kernel):
    pool, targets = problem(rows, rows, 8, 5, duplicates, dtype)
    options = dict(acquisition="vtl", noise_std=noise_std, kernel=kernel)
    together = select_rows_per_target(pool, targets, 12, num_candidates=None, **options)
    # Eight dimensions: without noise all is known after as many picks, and VTL's sum over targets resolves no more.
    least_certain = 4 if noise_std < 0.1 and kernel == "linear" else None
    alone = one_by_one(pool, targets, 12, **options)
    assert_equal(together, alone, 1e-9 + 1e-13 / noise_std**2, least_certain)


@pytest.mark.parametrize("noise_std", [0.05, 0.5, "auto"])
@pytest.mark.parametrize("replace", [False, True])
def test_candidates_equal_one_by_one_among_them(noise_std, replace):
    pool, targets = problem(3, 600, 16, 6, 100, "float32")
    pool, targets = torch.nn.functional.normalize(pool), torch.nn.functional.normalize(targets)
    options = dict(acquisition="vtl", kernel="linear", noise_std=noise_std, standardize=False)
    together = select_rows_per_target(pool, targets, 20, num_candidates=200, replace=replace, **options)
    for row, target in enumerate(targets):
        scores = (pool.double() @ target.double()).abs()
        candidates = scores.sort(descending=True, stable=True).indices[:200].sort().values
        constraints = SelectionConstraints(replace=replace)
        alone = select_rows(pool[candidates], target[None], 20, constraints=constraints, **options)
        assert together.indices[row].tolist() == candidates[alone.indices].tolist()
        np.testing.assert_allclose(together.gains[row], alone.gains, rtol=1e-6)


def test_the_map_is_fitted_on_the_whole_pool():
    """The first pick among candidates is that of the whole pool: both see the same features."""
    pool, targets = problem(4, 500, 10, 8)
    together = select_rows_per_target(3 * pool + 5, 3 * targets + 5, 1, num_candidates=50)
    assert together.indices.tolist() == one_by_one(3 * pool + 5, 3 * targets + 5, 1, acquisition="vtl")[0].tolist()


@pytest.mark.parametrize("target_noise_std", [None, 0.0, 2.0])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_itl_has_the_same_picks_and_gains_in_nats(target_noise_std, kernel):
    pool, targets = problem(5, 150, 6, 4)
    itl = ITL(noise_std=0.7, target_noise_std=target_noise_std)
    together = select_rows_per_target(pool, targets, 15, acquisition=itl, kernel=kernel, num_candidates=None)
    assert_equal(together, one_by_one(pool, targets, 15, acquisition=itl, kernel=kernel))
    vtl = select_rows_per_target(pool, targets, 15, noise_std=0.7, kernel=kernel, num_candidates=None)
    assert vtl.indices.tolist() == together.indices.tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), noise_std=st.floats(1e-2, 1e2), rows=st.integers(10, 180), width=st.integers(2, 20))
def test_any_problem_equals_one_by_one(seed, noise_std, rows, width):
    pool, targets = problem(seed, rows, width, 3, duplicates=rows // 4)
    options = dict(acquisition="sift", noise_std=noise_std, kernel="linear")
    together = select_rows_per_target(pool, targets, 8, num_candidates=None, **options)
    assert together.indices.tolist() == one_by_one(pool, targets, 8, **options)[0].tolist()


@pytest.mark.parametrize("kernel", ["auto", "linear", RBF(0.3)])
def test_defaults_are_those_of_one_by_one(kernel):
    pool, targets = problem(6, 180, 12, 4)
    together = select_rows_per_target(pool, targets, 10, kernel=kernel)
    alone = select_rows(pool, targets[:1], 10, acquisition="vtl", kernel=kernel)
    assert_equal(together, one_by_one(pool, targets, 10, acquisition="vtl", kernel=kernel))
    different = {"target_rows": len(together), "num_candidates": 180}
    assert together.record == dataclasses.replace(alone.record, **different)
    assert together.record.target_rows == len(together) == 4
    assert together.record.num_candidates == 180


def test_a_large_pool_of_candidates_is_read_for_each_target(monkeypatch):
    pool, targets = problem(7, 150, 8, 3, 40)
    together = select_rows_per_target(pool, targets, 10, num_candidates=None)
    monkeypatch.setattr(per_target, "MOST_WHOLE", 100)
    read = select_rows_per_target(pool, targets, 10, num_candidates=None)
    assert_equal(read, (together.indices, together.gains, together.target_variance))


def test_every_way_to_hold_the_pool_gives_the_same_picks(tmp_path):
    pool, targets = problem(1, 300, 6, 3, dtype="float16")
    stored = np.lib.format.open_memmap(tmp_path / "pool.npy", mode="w+", dtype=np.float16, shape=(300, 6))
    stored[:] = pool.numpy()
    stored.flush()
    read_only = pool.numpy().copy()
    read_only.flags.writeable = False
    backwards = np.ascontiguousarray(pool.numpy()[::-1])[::-1]
    ways = [
        pool,
        pool.numpy(),
        read_only,
        backwards,
        pool.double().tolist(),
        np.load(tmp_path / "pool.npy", mmap_mode="r"),
        pool.requires_grad_(),
    ]
    picks = [select_rows_per_target(way, targets, 10, num_candidates=150).indices.tolist() for way in ways]
    assert all(other == picks[0] for other in picks)


def test_target_variance_starts_at_the_prior_and_falls_by_the_gains():
    pool, targets = problem(8, 100, 6, 3)
    picked = select_rows_per_target(pool, targets, 10)
    np.testing.assert_allclose(picked.target_variance[:, 0], 1)
    np.testing.assert_allclose(-np.diff(picked.target_variance, axis=1), picked.gains, atol=1e-12)


BAD = {
    "one row beside NaN": (dict(pool=[[0.0, 1.0], [float("nan"), 0.0]]), "row 1 of `pool` holds NaN"),
    "infinity in the targets": (dict(targets=[[float("inf"), 1.0]]), "row 0 of `targets`"),
    "different widths": (dict(targets=[[1.0]]), "2 features and `targets` rows 1"),
    "too many picks": (dict(num_examples=3), "num_examples=3 is more than the 2 rows"),
    "more picks than candidates": (dict(num_examples=2, num_candidates=1), "more than num_candidates=1"),
    "no candidates": (dict(num_candidates=0), "num_candidates must be"),
    "half a candidate": (dict(num_candidates=1.5), "num_candidates must be"),
    "negative noise": (dict(noise_std=-1.0), "noise_std must be positive"),
    "an objective of several targets": (dict(acquisition="ctl"), "'ctl' has no form for one target"),
    "random": (dict(acquisition="random"), "'random' has no form for one target"),
    "unknown kernel": (dict(kernel="cubic"), "unknown kernel 'cubic'"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name(changes, message):
    good = dict(pool=[[0.0, 1.0], [1.0, 0.0]], targets=[[1.0, 1.0]], num_examples=1)
    with pytest.raises(ValueError, match=message):
        select_rows_per_target(**{**good, **changes})
