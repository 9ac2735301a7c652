"""Pools too large for a kernel's projections: the default gives way, a kernel that was asked for is approximated and
says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf import select_rows
from itl_hf.gp.kernels import RBF, Laplace, Linear
from itl_hf.gp.nystroem import FeatureMap
from itl_hf.selection import defaults
from itl_hf.selection.feature_arrays import MappedRows
from tests.selection.test_select_rows import problem


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("itl_hf.selection.large_pools.FACTOR_BYTES", 1000)


@pytest.mark.parametrize("kernel", [RBF(0.4), Laplace(1.0)])
def test_with_all_rows_as_landmarks_nothing_is_lost(kernel):
    rows = torch.nn.functional.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double())
    features = FeatureMap.fit(kernel, rows)
    np.testing.assert_allclose(features(rows) @ features(rows).T, kernel.cross(rows, rows), atol=1e-6)
    assert features.lost_share(rows) < 1e-6
    few = FeatureMap.fit(kernel, rows[:5])
    assert 0.05 < few.lost_share(rows) < 1
    assert few.lost_share(rows[:5]) < 1e-6


@pytest.mark.usefixtures("little_memory")
def test_an_approximated_kernel_picks_as_the_exact_one_when_landmarks_are_many(monkeypatch):
    pool, targets = problem(1, rows=300, dimension=8, num_targets=3)
    approximate = select_rows(pool, targets, 20, kernel=RBF(0.4), noise_std=1.0)
    monkeypatch.setattr("itl_hf.selection.large_pools.FACTOR_BYTES", 2**30)
    exact = select_rows(pool, targets, 20, kernel=RBF(0.4), noise_std=1.0)
    assert approximate.indices.tolist() == exact.indices.tolist()
    np.testing.assert_allclose(approximate.gains, exact.gains, rtol=1e-4)
    assert approximate.record.approximation["lost_of_pool"] < 1e-6
    assert exact.record.approximation is None


@pytest.mark.usefixtures("little_memory")
def test_the_record_says_what_an_approximation_loses(monkeypatch):
    monkeypatch.setattr("itl_hf.selection.large_pools.LANDMARKS", 10)
    pool, targets = problem(2, rows=300, dimension=8, num_targets=3)
    record = select_rows(pool, targets, 20, kernel=RBF(0.1), noise_std=1.0, already_selected=pool[:4]).record
    loss = record.approximation
    assert 0.1 < loss["lost_of_pool"] < 1
    assert loss["lost_of_targets"] < 1e-6


@pytest.mark.usefixtures("little_memory")
def test_the_default_gives_way_to_the_linear_kernel(monkeypatch):
    monkeypatch.setattr(defaults, "AUTO_KERNEL", RBF(0.4))
    pool, targets = problem(3, rows=300, dimension=8, num_targets=3)
    auto, linear = (select_rows(pool, targets, 20, kernel=kernel) for kernel in ("auto", Linear()))
    assert auto.indices.tolist() == linear.indices.tolist()
    assert auto.record.kernel_name == "linear"
    assert "too many" in auto.record.kernel_rule


def test_a_memory_map_is_read_and_let_go(tmp_path):
    np.save(tmp_path / "pool.npy", np.arange(12, dtype=np.float16).reshape(4, 3))
    rows = MappedRows(np.load(tmp_path / "pool.npy", mmap_mode="r"))
    for _ in range(2):  # the pages that were given back are read again
        assert rows[1:3].tolist() == [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
        assert rows[[3, 0]].tolist() == [[9.0, 10.0, 11.0], [0.0, 1.0, 2.0]]
