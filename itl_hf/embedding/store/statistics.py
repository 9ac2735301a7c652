"""Mean and spread of feature rows, stored with each shard and merged in the order of shards.

Because shards are merged in their order, the result does not depend on which process computed which shard. Everything
is computed in float64.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Number, mean and spread of many feature rows.

    Args:
        count (`int`):
            Number of rows.
        mean (`np.ndarray`):
            Shape (d,), float64.
        spread (`np.ndarray`):
            Shape (d,), float64: sum of squared distances to the mean.
        second_moment (`np.ndarray`, *optional*):
            Shape (d, d), float64: mean of (x - mean)(x - mean)^T, if it was requested.

    Example:
        >>> statistics = Statistics.of(np.array([[1.0, 0.0], [3.0, 0.0]]))
        >>> statistics.count, statistics.mean.tolist(), statistics.scale.tolist()
        (2, [2.0, 0.0], [1.0, 0.0])
    """

    count: int
    mean: np.ndarray
    spread: np.ndarray
    second_moment: np.ndarray | None = None

    @property
    def scale(self) -> np.ndarray:
        """Standard deviation of each dimension, shape (d,)."""
        return np.sqrt(self.spread / max(self.count, 1))

    @classmethod
    def of(cls, features: np.ndarray, weights: np.ndarray | None = None) -> Statistics:
        """Computes the statistics of the rows of a matrix (B, d), each counted `weights` (B,) times.

        Rows with NaN or infinity do not count.
        """
        rows = np.asarray(features, dtype=np.float64)
        times = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)  # (B,)
        finite = np.isfinite(rows).all(axis=1)  # (B,)
        if not finite.all():
            rows, times = rows[finite], times[finite]
        count = int(times.sum())
        mean = times @ rows / max(count, 1)
        return cls(count, mean, times @ np.square(rows - mean))

    def merge(self, other: Statistics) -> Statistics:
        """Returns the statistics of the rows of both. Source: Chan, Golub & LeVeque (1983), eq. 2.1."""
        count = self.count + other.count
        shift = other.mean - self.mean
        share = other.count / max(count, 1)
        spread = self.spread + other.spread + np.square(shift) * (self.count * share)
        return Statistics(count, self.mean + shift * share, spread)

    def to_json(self) -> str:
        """Returns the statistics as text, without loss of precision."""
        return json.dumps({"count": self.count, "mean": _encode(self.mean), "spread": _encode(self.spread)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Statistics:
        """Reads the text that `to_json` returned."""
        values: dict[str, Any] = json.loads(text)
        return cls(int(values["count"]), _decode(values["mean"]), _decode(values["spread"]))


def centred_products(features: np.ndarray, mean: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the sum of (x - mean)(x - mean)^T over the rows of (B, d), (d, d) float64.

    Each row counts `weights` (B,) times.
    """
    rows = np.asarray(features, dtype=np.float64) - mean  # (B, d)
    rows = np.where(np.isfinite(rows).all(axis=1)[:, None], rows, 0.0)  # others do not count
    weighted_rows = rows if weights is None else rows * np.asarray(weights, dtype=np.float64)[:, None]
    return np.asarray(weighted_rows.T @ rows)


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode()


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f8").astype(np.float64)
