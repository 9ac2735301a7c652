"""Picks for many targets at once: equal to plain float64 greedy for each, whatever float32 does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.gp import pool as pool_module
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.pool import Pool
from itl_hf.search import nearest_rows as nearest_module
from itl_hf.search import per_target
from itl_hf.search.nearest_rows import PoolRows, nearest
from itl_hf.search.per_target import PerTargetRequest, greedy_in_float64, greedy_per_target
from tests.oracle import objectives as oracle
from tests.search.kernels import KERNELS

NOISES = [1e-4, 1e-2, 0.1, 1.0, 7.0, 1e3]


def make(seed, rows=300, dimension=12, targets=7, duplicates=0, scale=1.0, dtype=torch.float32):
    """Rows that lean towards a few directions, some of them repeated, of about norm `scale`."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(3, dimension, generator=generator)
    draw = lambda count: (
        torch.randn(count, 3, generator=generator) @ common + torch.randn(count, dimension, generator=generator)
    )
    pool, anchors = draw(rows), draw(targets)
    if duplicates:
        to, of = torch.randint(rows, (2, duplicates), generator=generator)
        pool[to] = pool[of]
    factor = scale / dimension**0.5 / 2
    pool, anchors = (pool * factor).to(dtype), (anchors * factor).to(dtype)
    return PoolRows(Pool(pool)), anchors.double()


@pytest.fixture
def searching(monkeypatch):
    """Few candidates take the float32 search too, in several groups."""
    monkeypatch.setattr(per_target, "FLOAT64_CANDIDATES", 8)
    monkeypatch.setattr(per_target, "GROUP_BYTES", 40_000)


def both(rows, targets, request, breadth):
    """What is tested, and plain float64 greedy among the same candidates."""
    numbers = nearest(rows, targets, request.kernel, request.noise_variance, breadth)
    selection = greedy_per_target(rows, numbers, targets, request)
    places, gains = greedy_in_float64(rows.exact(numbers), targets, request)
    return selection, numbers.gather(1, places), gains


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("replace", [False, True])
def test_picks_are_those_of_float64(kernel, noise_std, replace, searching):
    rows, targets = make(1, duplicates=100)
    request = PerTargetRequest(KERNELS[kernel], noise_std**2, 25, replace)
    selection, indices, gains = both(rows, targets, request, 120)
    assert selection.indices.tolist() == indices.tolist()
    torch.testing.assert_close(selection.gains, gains, rtol=1e-7, atol=1e-9 * float(gains.max()) + 1e-15 / noise_std**2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    noise_std=st.floats(1e-2, 1e2),
    duplicates=st.sampled_from([0, 30, 400]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_picks_are_those_of_float64_on_any_problem(seed, noise_std, duplicates, scale, dtype):
    rows, targets = make(seed, duplicates=duplicates, scale=scale, dtype=dtype)
    request = PerTargetRequest(Linear(), (noise_std * scale) ** 2, 20, False)
    selection, indices, _ = both(rows, targets, request, 150)
    assert selection.indices.tolist() == indices.tolist()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_std", [0.1, 1.0])
def test_float64_equals_brute_force(kernel, noise_std):
    rows, targets = make(2, rows=30, dimension=5, targets=3, duplicates=8)
    everything = torch.arange(30).expand(3, -1)
    exact = rows.exact(everything)
    places, gains = greedy_in_float64(exact, targets, PerTargetRequest(KERNELS[kernel], noise_std**2, 8, False))
    for target, picks, falls in zip(targets, places.tolist(), gains.numpy(), strict=True):
        joint = torch.cat([exact[0], target[None]])
        matrix = KERNELS[kernel].cross(joint, joint).numpy()
        matrix[np.diag_indices(31)] = KERNELS[kernel].diagonal(joint).numpy()
        expected, expected_gains = oracle.greedy("vtl", matrix, range(30), [30], 8, noise_std, noise_std)
        assert picks == expected
        np.testing.assert_allclose(falls, expected_gains, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("noise_std", [0.1, 1.0, 7.0])
def test_float32_suffices_where_rows_differ(noise_std):
    rows, targets = make(3, rows=2000, dimension=32, targets=40)
    request = PerTargetRequest(Linear(), noise_std**2, 30, False)
    selection, indices, _ = both(rows, targets, request, 500)
    assert selection.indices.tolist() == indices.tolist()
    assert selection.num_float64 <= 4


def test_pairs_of_equal_rows_do_not_take_float64():
    rows, targets = make(4, rows=600, dimension=32, targets=20)
    doubled = PoolRows(Pool(rows.pool.source.repeat_interleave(2, 0)))
    selection, indices, _ = both(doubled, targets, PerTargetRequest(Linear(), 0.3, 20, False), 400)
    assert selection.indices.tolist() == indices.tolist()
    assert selection.num_float64 <= 2


def test_a_search_gone_wrong_is_noticed(monkeypatch):
    """Float32 rows that are off by more than was assumed: the proof must not let their picks stand."""
    rows, targets = make(5, targets=30)
    exact = PoolRows.coarse
    spoil = lambda self, numbers: (
        exact(self, numbers)
        * (1 + 1e-3 * torch.randn(numbers.shape, generator=torch.Generator().manual_seed(0))[..., None])
    )
    monkeypatch.setattr(PoolRows, "coarse", spoil)
    selection, indices, _ = both(rows, targets, PerTargetRequest(Linear(), 0.1, 30, False), 200)
    assert selection.num_float64 == 30
    assert selection.indices.tolist() == indices.tolist()


def test_a_larger_error_is_assumed_where_the_first_is_too_small(monkeypatch):
    rows, targets = make(6, targets=10)
    monkeypatch.setattr(per_target, "ASSUMED_ERRORS", (1e-12, 1e-5))
    selection, indices, _ = both(rows, targets, PerTargetRequest(Linear(), 0.5, 10, False), 200)
    assert selection.indices.tolist() == indices.tolist()
    assert selection.num_float64 < 10


def test_a_target_about_which_no_row_tells_anything():
    rows, targets = make(7, rows=200)
    targets[3] = 0
    selection, indices, _ = both(rows, targets, PerTargetRequest(Linear(), 1.0, 5, False), 150)
    assert selection.indices.tolist() == indices.tolist()
    assert selection.indices[3].tolist() == [0, 1, 2, 3, 4]


def test_all_candidates_may_be_picked(searching):
    rows, targets = make(8, rows=40, duplicates=10)
    selection, indices, _ = both(rows, targets, PerTargetRequest(Linear(), 0.2, 30, False), 30)
    assert selection.indices.tolist() == indices.tolist()
    assert all(len(set(picks)) == 30 for picks in selection.indices.tolist())


def test_neither_company_nor_groups_change_the_picks(monkeypatch):
    rows, targets = make(9, rows=400, dimension=24, targets=9, duplicates=150)
    request = PerTargetRequest(RBF(0.5), 0.5, 15, False)
    together, _, _ = both(rows, targets, request, 200)
    alone = [both(rows, target[None], request, 200)[0].indices[0].tolist() for target in targets]
    assert together.indices.tolist() == alone


@pytest.mark.parametrize("kernel", [Linear(), RBF(0.4)])
@pytest.mark.parametrize("count", [1, 30, 200])
@pytest.mark.parametrize("block_rows", [16, 8192])
def test_nearest_rows_equal_a_sort(kernel, count, block_rows, monkeypatch):
    monkeypatch.setattr(pool_module, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(nearest_module, "TARGETS_AT_ONCE", 3)
    rows, targets = make(10, rows=200)
    prepared = rows.exact(torch.arange(200)[None])[0]
    scores = kernel.cross(targets, prepared).abs() / (kernel.diagonal(prepared) + 0.3).sqrt()
    expected = scores.argsort(1, descending=True)[:, :count].sort(1).values
    assert nearest(rows, targets, kernel, 0.3, count).tolist() == expected.tolist()


def test_nearest_of_equal_rows_are_the_first():
    rows = PoolRows(Pool(torch.ones(50, 4)))
    assert nearest(rows, torch.ones(2, 4).double(), Linear(), 1.0, 5).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_a_pool_that_is_not_kept_in_float32(monkeypatch):
    rows, targets = make(11)
    request = PerTargetRequest(Linear(), 0.4, 12, False)
    kept, _, _ = both(rows, targets, request, 200)
    monkeypatch.setattr(pool_module, "CACHE_BYTES", 0)
    read, _, _ = both(PoolRows(rows.pool), targets, request, 200)
    assert read.indices.tolist() == kept.indices.tolist()
