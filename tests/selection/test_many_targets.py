"""Many targets, followed through fewer functions: the same picks as with the decomposed kernel matrix, and a word where
something is lost."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from itl_hf import select_rows
from itl_hf.gp import kernel_posterior, many_targets
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.noise import effective_rank
from itl_hf.selection.acquisitions import ITL, VTL
from itl_hf.selection.result.record import SelectionRecord

GENERATOR = np.random.default_rng(1)
CENTRES = GENERATOR.standard_normal((6, 12))
draw = lambda count: CENTRES[GENERATOR.integers(6, size=count)] + GENERATOR.standard_normal((count, 12))
POOL, TARGETS = draw(400), draw(90)
TARGETS[40:50] = TARGETS[10:20]  # copies
WEIGHTS = GENERATOR.uniform(0.2, 3.0, size=90)


@pytest.fixture
def many(monkeypatch):
    """90 targets count as many, and pivots are chosen 16 at a time."""
    monkeypatch.setattr(many_targets, "FEW_TARGETS", 50)
    monkeypatch.setattr(many_targets, "PIVOTS_AT_ONCE", 16)
    monkeypatch.setattr(many_targets, "CHUNK_ROWS", 40)
    return monkeypatch


@pytest.mark.parametrize(
    "acquisition", [ITL(), VTL(), ITL(target_noise_std=1e-3), ITL(0.05, 0.02), VTL(noise_std=10.0)]
)
@pytest.mark.parametrize("kernel", ["linear", "rbf", "exponential_cosine", "laplace"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_picks_are_those_of_all_targets(kernel, acquisition, weights, many):
    options = dict(acquisition=acquisition, kernel=kernel, target_weights=weights, shortlist=None)
    reduced = select_rows(POOL, TARGETS, 40, **options)
    many.setattr(many_targets, "FEW_TARGETS", 1000)
    plain = select_rows(POOL, TARGETS, 40, **options)
    assert reduced.indices.tolist() == plain.indices.tolist()
    np.testing.assert_allclose(reduced.gains, plain.gains, rtol=1e-7)
    np.testing.assert_allclose(reduced.target_variance, plain.target_variance, rtol=1e-7, atol=1e-9)
    assert reduced.record.effective_rank == pytest.approx(plain.record.effective_rank, rel=1e-9)
    assert reduced.record.many_targets is None


@pytest.mark.parametrize("options", [{}, {"target_weights": WEIGHTS}, {"acquisition": ITL(0.01, 0.01)}])
def test_a_cholesky_factor_does_as_well_as_eigenvalues(options, monkeypatch):
    plain = select_rows(POOL, TARGETS, 40, kernel="rbf", **options)
    monkeypatch.setattr(kernel_posterior, "MOST_DECOMPOSED", 20)
    quick = select_rows(POOL, TARGETS, 40, kernel="rbf", **options)
    assert quick.indices.tolist() == plain.indices.tolist()
    np.testing.assert_allclose(quick.gains, plain.gains, rtol=1e-7)


def test_targets_known_without_noise(many):
    """f(A) is known exactly: six targets and their copies."""
    targets = np.tile(draw(6), (15, 1))
    reduced = select_rows(POOL, targets, 20, acquisition=ITL(0.5, 0.0), kernel="rbf")
    many.setattr(many_targets, "FEW_TARGETS", 1000)
    plain = select_rows(POOL, targets, 20, acquisition=ITL(0.5, 0.0), kernel="rbf")
    assert reduced.indices.tolist() == plain.indices.tolist()


def test_what_pivots_leave_over_is_said(many):
    many.setattr(many_targets, "MOST_PIVOTS", 60)
    with pytest.warns(UserWarning, match=r"90 targets are followed through 60 of them, which leave \d+\.\d+% of"):
        selection = select_rows(POOL, TARGETS, 20, kernel="rbf")
    reduction = selection.record.many_targets
    assert (reduction["targets"], reduction["pivots"]) == (90, 60)
    assert 0.01 < reduction["lost"] < 0.3
    assert SelectionRecord.from_json(selection.record.to_json()) == selection.record
    many.setattr(many_targets, "FEW_TARGETS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = select_rows(POOL, TARGETS, 20, kernel="rbf")
    assert selection.record.effective_rank == pytest.approx(plain.record.effective_rank, rel=0.2)
    assert len(set(selection.indices.tolist()) & set(plain.indices.tolist())) >= 10


def test_the_factor_is_that_of_the_kernel_matrix(many):
    targets, weights = torch.from_numpy(TARGETS), torch.from_numpy(WEIGHTS)
    kernel = RBF(0.6)
    gram = kernel.cross(targets, targets)
    pivots = many_targets.pivot_targets(kernel, targets, weights)
    torch.testing.assert_close(pivots.factor @ pivots.factor.T, gram, atol=1e-9, rtol=0)
    assert len(pivots.rows) == 80  # the copies are not chosen
    many.setattr(many_targets, "MOST_PIVOTS", 30)
    pivots = many_targets.pivot_targets(kernel, targets, weights)
    torch.testing.assert_close((pivots.factor @ pivots.factor.T).diagonal() + pivots.rest, torch.ones(90).double())
    spectrum = pivots.spectrum(weights)
    assert 30 < len(spectrum) <= 90
    assert float(spectrum.sum()) == pytest.approx(WEIGHTS.sum())
    assert effective_rank(targets, kernel, weights) < 90


def test_few_rows_stand_for_many_under_the_linear_kernel(many):
    targets, weights = torch.from_numpy(TARGETS), torch.from_numpy(WEIGHTS)
    rows = many_targets.stand_ins(targets, weights)
    assert rows.shape == (12, 12)
    torch.testing.assert_close(rows.T @ rows, targets.T @ (targets * weights[:, None]))
    assert many_targets.pivot_targets(Linear(), targets) is None
