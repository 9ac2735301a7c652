"""Turns losses measured around a training into the quality of rows, a number above 0 and at most 1."""

from __future__ import annotations

import numpy as np

#: Added to the loss that is divided by, as in the code of the paper.
SMALLEST = 1e-8
#: A median absolute deviation times this is the standard deviation of normal numbers.
NORMAL = 1.4826
#: Quality is a half this many deviations below the neighbours, and falls by a factor exp(SLOPE) for each further one.
HALF, SLOPE = 1.0, 4.0


def normalised_drop(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns the share of each row's loss that the training removed, (before - after) / before, (N,)."""
    drop: np.ndarray = (before - after) / (before + SMALLEST)
    return drop


def contrast(after: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """Returns how much smaller the loss of an answer is after its own prompt than after that of a similar row, (N,).

    Args:
        after (`np.ndarray`):
            (N,), loss of each row's answer by the trained model.
        swapped (`np.ndarray`):
            (N,), its loss after the other prompt.
    """
    difference: np.ndarray = swapped - after
    return difference


def nearest_rows(features: np.ndarray, count: int) -> np.ndarray:
    """Returns the rows most similar to each, itself among them, by cosine of standardized features, (N, d) -> (N, k).

    Args:
        features (`np.ndarray`):
            (N, d).
        count (`int`):
            k, or N if there are fewer rows.
    """
    rows = np.asarray(features, dtype=np.float64)
    scale = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(scale > 0, scale, 1)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, np.inf)
    nearest: np.ndarray = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return nearest


def quality_of(scores: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Returns the quality of each row, 1 / (1 + exp(-SLOPE (z + HALF))), (N,).

    z is how many deviations the row's score lies above the median score of its neighbours; a deviation is 1.4826 times
    the median absolute deviation among them. So rows are compared with rows of their kind: a task whose answers are
    hard to learn is no worse than an easy one, and a row like those around it has a quality of .98. One deviation below
    it is .5, two below .02. Where most neighbours have the same score, the deviation is that of all rows' differences
    to their neighbours' medians.

    Args:
        scores (`np.ndarray`):
            (N,), normalised drops or contrasts; more is better.
        neighbours (`np.ndarray`):
            (N, k), row numbers.
    """
    around = scores[neighbours]  # (N, k)
    medians = np.median(around, axis=1)
    deviations = NORMAL * np.median(np.abs(around - medians[:, None]), axis=1)
    overall = NORMAL * float(np.median(np.abs(scores - medians)))
    deviations = np.where(deviations > 1e-9, deviations, overall if overall > 1e-9 else 1.0)
    z = (scores - medians) / deviations
    quality: np.ndarray = 1 / (1 + np.exp(np.minimum(-SLOPE * (z + HALF), 500.0)))
    return quality
