"""Numbers that are computed from the kernel between a cell's picks and the held-out prompts, without training.

All are oriented so that a larger number predicts a larger loss: similarities have a minus sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: Observation noise, as variances. The rule of the defaults gives 1 to 7 with these targets and 96 picks.
NOISES = (0.1, 1.0, 3.0, 10.0, 30.0)
LENGTHSCALE = 0.6
NEAREST = 5
#: Kernels as functions of the cosines of prepared rows.
KERNELS = ("rbf", "linear")


def kernel_values(cosines: np.ndarray, kernel: str) -> np.ndarray:
    """Returns the kernel of unit rows from their cosines: RBF as in the defaults, or the cosines themselves.

    Raises:
        `ValueError`: If there is no kernel of this name.
    """
    if kernel == "linear":
        return cosines
    if kernel == "rbf":
        values: np.ndarray = np.exp((cosines - 1) / LENGTHSCALE)
        return values
    raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}")


def variance_left(
    picks: np.ndarray, cross: np.ndarray, diagonal: np.ndarray, noises: Sequence[float] = NOISES
) -> np.ndarray:
    """Returns the posterior variance of held-out rows after noisy observations of the picks.

    One eigendecomposition serves all noises. Source: Rasmussen & Williams (2006), eq. 2.26.

    Args:
        picks (`np.ndarray`):
            (n, n) kernel of the picks.
        cross (`np.ndarray`):
            (n, m) kernel of picks and held-out rows.
        diagonal (`np.ndarray`):
            (m,) prior variance of the held-out rows.
        noises (`Sequence[float]`, *optional*, defaults to `NOISES`):
            Variances of the observation noise, positive.

    Returns:
        `np.ndarray`: (noises, m).
    """
    values, vectors = np.linalg.eigh(picks.astype(np.float64))
    squares = (vectors.T @ cross.astype(np.float64)) ** 2  # (n, m)
    weights = 1 / (np.maximum(values, 0) + np.array(noises)[:, None])  # (noises, n)
    left: np.ndarray = diagonal[None] - weights @ squares
    return left


def predictor_names(noises: Sequence[float] = NOISES) -> list[str]:
    """Returns the names of the columns of `row_predictors`."""
    variances = [f"variance left, {kernel}, noise {noise:g}" for kernel in KERNELS for noise in noises]
    return [*variances, "similarity of the nearest pick", f"of the {NEAREST} nearest picks", "of all picks"]


def row_predictors(cosines: np.ndarray, num_picks: int, noises: Sequence[float] = NOISES) -> np.ndarray:
    """Returns all predictors for each held-out row.

    Args:
        cosines (`np.ndarray`):
            (n + m, n + m) cosines of prepared rows, picks first.
        num_picks (`int`):
            n, at least one.
        noises (`Sequence[float]`, *optional*, defaults to `NOISES`):
            Noise variances.

    Returns:
        `np.ndarray`: (predictors, m), in the order of `predictor_names`.
    """
    rows = []
    for kernel in KERNELS:
        values = kernel_values(cosines, kernel)
        picks, cross = values[:num_picks, :num_picks], values[:num_picks, num_picks:]
        rows.append(variance_left(picks, cross, values.diagonal()[num_picks:], noises))
    descending = -np.sort(-cosines[:num_picks, num_picks:], axis=0)
    similarities = [descending[0], descending[:NEAREST].mean(0), descending.mean(0)]
    return np.concatenate([*rows, -np.stack(similarities)])


def task_means(values: np.ndarray, tasks: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Returns the mean over each task's rows of predictors (predictors, m), as (predictors,) by task."""
    labels = np.array(tasks)
    return {task: values[:, labels == task].mean(1) for task in dict.fromkeys(tasks)}
