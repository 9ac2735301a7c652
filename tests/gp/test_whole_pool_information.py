"""The information of the whole pool: brute force by determinants, and the sum of the gains of picking every row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from itl_hf import ITL, Selection, select_rows
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.pool import Pool
from tests.oracle.weighted import conditional
from tests.report.explorer.example import make_example

NOISE, TARGET_NOISE = 0.7, 0.4


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(40, 6, generator=generator).double(), torch.randn(5, 6, generator=generator).double()


def brute_force(kernel, pool, targets, quality, weights):
    joint = torch.cat([pool, targets])
    covariance = kernel.cross(joint, joint).numpy()
    numbers = list(range(len(pool), len(joint)))
    noise = np.concatenate([NOISE**2 / np.asarray(quality), np.ones(len(targets))])
    value_noise = np.diag(TARGET_NOISE**2 / np.asarray(weights))
    before, after = (conditional(covariance, numbers, observed, noise) for observed in ([], list(range(len(pool)))))
    return 0.5 * (np.linalg.slogdet(before + value_noise)[1] - np.linalg.slogdet(after + value_noise)[1])


@pytest.mark.parametrize("kernel", [Linear(), RBF(1.5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_that_of_the_dense_matrices_and_the_sum_of_all_gains(rows, kernel, weighted):
    pool, targets = rows
    generator = np.random.default_rng(0)
    quality = 10 ** generator.uniform(-1, 0, len(pool)) if weighted else np.ones(len(pool))
    weights = 10 ** generator.uniform(-0.5, 0.5, len(targets)) if weighted else np.ones(len(targets))
    gp = GaussianProcess(kernel, targets, NOISE, TARGET_NOISE, torch.tensor(weights) if weighted else None)
    feature_pool = Pool(pool, quality=torch.tensor(quality) if weighted else None)
    nats = attainable_variance(feature_pool, gp).whole_pool_information
    assert nats == pytest.approx(brute_force(kernel, pool, targets, quality, weights), rel=1e-9)
    assert attainable_variance(feature_pool, gp, most_rows=9, most_landmarks=9).whole_pool_information < nats
    numbers = {"quality": quality, "target_weights": weights} if weighted else {}
    acquisition = ITL(NOISE, TARGET_NOISE)
    picked = select_rows(pool, targets, len(pool), acquisition=acquisition, kernel=kernel, standardize=False, **numbers)
    assert float(picked.gains.sum()) == pytest.approx(nats, rel=1e-5)


def test_without_noise_on_the_targets_it_is_not_defined(rows):
    pool, targets = rows
    gp = GaussianProcess(Linear(), targets, NOISE, 0.0)
    assert math.isnan(attainable_variance(Pool(pool), gp).whole_pool_information)


def test_it_is_saved_with_the_selection_and_above_the_sum_of_the_gains(tmp_path):
    selection = make_example(tmp_path / "made").selection
    loaded = Selection.load(selection.save(tmp_path / "saved"))
    assert loaded.whole_pool_information.tolist() == selection.whole_pool_information.tolist()
    assert float(selection.gains.sum()) < float(loaded.whole_pool_information[0])
