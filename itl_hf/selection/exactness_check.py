"""Compares picks on this machine's hardware with brute force in float64, for `itl-hf doctor`.

The brute force keeps the dense covariance of pool and targets, conditions it on one pick after another, and scores
every row at every step by the formula of ITL, I(y_row; y_targets | y_picks) (Hübotter et al., 2024, equation 1). It has
nothing in common with the fast search but the kernel's formula.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from itl_hf.gp.kernels import RBF
from itl_hf.selection.acquisitions import ITL
from itl_hf.selection.select_rows import select_rows

NUM_ROWS, NUM_TARGETS, DIMENSION, NUM_PICKS = 1500, 8, 32, 16
NOISE_STD, LENGTHSCALE = 0.5, 1.0
#: A pick counts as the best row if its score is at most this share below the best; a gain as right within this share.
SCORE_TOLERANCE, GAIN_TOLERANCE = 1e-6, 1e-4


@dataclass(frozen=True)
class ExactnessResult:
    """The result of one comparison.

    Args:
        kernel (`str`):
            Name of the kernel.
        num_worse (`int`):
            Number of picks that are not the best row.
        largest_shortfall (`float`):
            By which share of the best score the worst pick is below it.
        largest_gain_error (`float`):
            Largest relative error of a gain.
        seconds (`float`):
            Time of the search, without that of the brute force.
    """

    kernel: str
    num_worse: int
    largest_shortfall: float
    largest_gain_error: float
    seconds: float

    @property
    def is_exact(self) -> bool:
        """Whether all picks are the best rows and all gains are right."""
        return self.num_worse == 0 and self.largest_gain_error <= GAIN_TOLERANCE


def check_exactness(seed: int = 0) -> list[ExactnessResult]:
    """Selects from random rows with two kernels and compares every pick and gain with brute force.

    Args:
        seed (`int`, *optional*, defaults to 0):
            Seed of the rows.

    Example:
        >>> [result.is_exact for result in check_exactness()]
        [True, True]
    """
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((NUM_ROWS + NUM_TARGETS, DIMENSION)) / DIMENSION**0.5
    return [_compare(rows, kernel) for kernel in ("linear", "rbf")]


def _compare(rows: np.ndarray, kernel: str) -> ExactnessResult:
    start = time.monotonic()
    selection = select_rows(
        rows[:NUM_ROWS],
        rows[NUM_ROWS:],
        NUM_PICKS,
        acquisition=ITL(noise_std=NOISE_STD, target_noise_std=NOISE_STD),
        kernel="linear" if kernel == "linear" else RBF(LENGTHSCALE),
        standardize=False,
        shortlist=None,
    )
    seconds = time.monotonic() - start
    covariance = _kernel_matrix(rows, kernel)  # (N + m, N + m)
    is_free = np.ones(NUM_ROWS, dtype=bool)
    shortfalls, errors = [], []
    for pick, gain in zip(selection.indices.tolist(), selection.gains.tolist(), strict=True):
        scores = np.where(is_free, _itl_scores(covariance), -np.inf)  # (N,)
        shortfalls.append((scores.max() - scores[pick]) / scores.max())
        errors.append(abs(gain - scores[pick]) / scores[pick])
        is_free[pick] = False
        column = covariance[:, pick]
        covariance = covariance - np.outer(column, column) / (covariance[pick, pick] + NOISE_STD**2)
    num_worse = sum(shortfall > SCORE_TOLERANCE for shortfall in shortfalls)
    return ExactnessResult(kernel, num_worse, float(max(shortfalls)), float(max(errors)), seconds)


def _kernel_matrix(rows: np.ndarray, kernel: str) -> np.ndarray:
    if kernel == "linear":
        return np.asarray(rows @ rows.T)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.exp((unit @ unit.T - 1) / LENGTHSCALE))


def _itl_scores(covariance: np.ndarray) -> np.ndarray:
    """Information in nats that each row's answer gives about the targets' values, (N + m, N + m) -> (N,)."""
    cross, between = covariance[:NUM_ROWS, NUM_ROWS:], covariance[NUM_ROWS:, NUM_ROWS:]  # (N, m), (m, m)
    between = between + NOISE_STD**2 * np.eye(NUM_TARGETS)
    reduction = np.einsum("nm,nm->n", cross, np.linalg.solve(between, cross.T).T)
    return np.asarray(-0.5 * np.log1p(-reduction / (covariance.diagonal()[:NUM_ROWS] + NOISE_STD**2)))
