"""The posterior against dense conditioning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf.gp import standardization as preparation
from itl_hf.gp.kernels import Linear
from itl_hf.gp.noise import auto_noise_std, effective_rank
from itl_hf.gp.posterior import LinearPosterior as Posterior
from tests.oracle import gaussian_process as oracle


@pytest.mark.parametrize(("picks", "dimension"), [(3, 8), (20, 4), (40, 40)])
@pytest.mark.parametrize("noise_std", [1e-3, 0.5, 30.0])
def test_variance_and_covariance_equal_dense_conditioning(picks, dimension, noise_std):
    rng = np.random.default_rng(picks)
    observed, queries = rng.normal(size=(picks, dimension)), rng.normal(size=(6, dimension))
    posterior = Posterior(dimension, noise_std)
    for row in torch.tensor(observed):
        posterior.observe(row)
    features = np.concatenate([observed, queries])
    expected = oracle.conditional_covariance(
        features @ features.T, list(range(picks, picks + 6)), list(range(picks)), noise_std**2
    )
    rows = torch.tensor(queries)
    np.testing.assert_allclose(posterior.covariance(rows, rows), expected, atol=1e-8)
    np.testing.assert_allclose(posterior.variance(rows), np.diag(expected), atol=1e-8)


@pytest.mark.parametrize("rows_noise_std", [0.0, 1e-3, 2.0])
@pytest.mark.parametrize("count", [2, 30])
def test_given_values_equals_observing_them_one_by_one(rows_noise_std, count):
    rng = np.random.default_rng(count)
    rows, queries = rng.normal(size=(count, 5)), torch.tensor(rng.normal(size=(4, 5)))
    given = Posterior.given_values(torch.tensor(rows), rows_noise_std, noise_std=1.0)
    one_by_one = Posterior(5, max(rows_noise_std, 1e-6))
    for row in torch.tensor(rows):
        one_by_one.observe(row)
    np.testing.assert_allclose(given.variance(queries), one_by_one.variance(queries), atol=1e-5)


def test_standardization_in_blocks_equals_all_at_once():
    rows = 5 + torch.randn(100, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    of = lambda parts, mode: preparation.fit(
        [preparation.Moments.from_rows(part, mode == "whiten") for part in parts],
        preparation.Standardization(mode, 4),
        7,
    )
    for mode in preparation.MODES:
        whole, blocks = of([rows], mode), of(rows.split(9), mode)
        np.testing.assert_allclose(whole(rows).abs(), blocks(rows).abs(), rtol=1e-9, atol=1e-12)
        assert whole(rows).square().sum(1).mean().item() == pytest.approx(1)


def test_preparations_do_what_they_say():
    rows = 5 + torch.randn(100, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.arange(7)
    fitted = {
        mode: preparation.fit(
            [preparation.Moments.from_rows(rows, mode == "whiten")], preparation.Standardization(mode), 7
        )(rows)
        for mode in preparation.MODES
    }
    np.testing.assert_allclose(fitted["scale"].mean(0), 0, atol=1e-12)
    ratio = fitted["scale"][:, 1:] / (rows - rows.mean(0))[:, 1:]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)
    # The first column is constant: it tells nothing and is left out.
    np.testing.assert_allclose(fitted["dimensions"].square().mean(0), [0] + [1 / 6] * 6, atol=1e-12)
    np.testing.assert_allclose(fitted["whiten"].T @ fitted["whiten"] / 100, torch.eye(6) / 6, atol=1e-9)


def test_effective_rank_counts_directions():
    assert effective_rank(torch.eye(4).repeat(3, 1)) == pytest.approx(4)
    assert effective_rank(torch.ones(6, 2)) == pytest.approx(1)
    assert effective_rank(torch.zeros(2, 2)) == pytest.approx(1)
    assert auto_noise_std(Linear(), torch.eye(4), 36)[0] == pytest.approx(3)


@pytest.mark.parametrize("noise_variance", [2.0, 10.0, 40.0])
def test_picks_per_cluster_follow_the_derivation_of_the_noise_rule(noise_variance):
    """Equicorrelated cluster rows (r), outside rows (q): the covariance with the target crosses at the derived
    count."""
    r, q = 0.9, 0.45
    turn = (noise_variance + 1 - r) * (1 / q - 1 / r)
    for picks, cluster_wins in [(int(turn), True), (int(turn) + 1, False)]:
        size = picks + 2  # the picks, the next row of the cluster, and the target
        kernel = np.full((size, size), r) + (1 - r) * np.eye(size)
        covariance = oracle.conditional_covariance(kernel, [size - 2, size - 1], list(range(picks)), noise_variance)
        assert (covariance[0, 1] > q) == cluster_wins


@pytest.mark.parametrize("noise_std", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_must_be_positive(noise_std):
    with pytest.raises(ValueError, match="noise_std must be a positive finite number"):
        Posterior(3, noise_std)
