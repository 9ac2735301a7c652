"""Prompts to avoid: the information that picks give about them is subtracted from that about the targets."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.objectives.avoiding_itl import AvoidingITL
from itl_hf.selection.feature_arrays import as_rows, finite
from itl_hf.selection.unusable_rows import blank_targets


def check_avoid(acquisition: Any, width: int) -> None:
    """Raises `ValueError` if an acquisition avoids prompts whose features are not finite or not of the pool's width."""
    avoid = getattr(acquisition, "avoid", None)
    if avoid is not None:
        avoid.features(width)


def warn_of_losses(acquisition: Any, gains: Sequence[float]) -> None:
    """Points out picks that tell more about what is to be avoided than about the targets."""
    losses = [place for place, gain in enumerate(gains) if gain < 0]
    if losses and getattr(acquisition, "avoid", None) is not None:
        warnings.warn(
            f"{len(losses)} of {len(gains)} picks, the first of them pick {losses[0] + 1}, tell more about the prompts "
            "to avoid (times their weight) than about the targets: no row that is left is better. Pick fewer rows, or "
            "stop before such picks with constraints=SelectionConstraints(stop_when=StopWhen(gain=1e-9)).",
            stacklevel=4,
        )


@dataclass(frozen=True, eq=False)
class Avoid:
    """Prompts whose task must not be learned, and how much that counts.

    Args:
        rows (rows of text, or features):
            For `Selector.select` prompts as its `targets`; for `ITL(avoid=...)` in `select_rows` their (b, d) feature
            rows. None at all avoid nothing.
        weight (`float`, *optional*, defaults to 1.0):
            How much a nat about them counts beside a nat about the targets. 0 avoids nothing.

    Raises:
        `ValueError`: If the weight is negative or not finite.

    Example:
        >>> from itl_hf import ITL, select_rows
        >>> rows, targets = [[1.0, 1.0], [0.8, 0.0]], [[1.0, 1.0]]
        >>> options = {"kernel": "linear", "standardize": False}
        >>> select_rows(rows, targets, 1, acquisition=ITL(noise_std=1.0), **options).indices.tolist()
        [0]
        >>> itl = ITL(noise_std=1.0, avoid=Avoid([[0.0, 1.0]], weight=3.0))
        >>> select_rows(rows, targets, 1, acquisition=itl, **options).indices.tolist()
        [1]
    """

    rows: Any
    weight: float = 1.0

    def __post_init__(self) -> None:
        is_number = isinstance(self.weight, int | float | np.number) and not isinstance(self.weight, bool)
        if not is_number or not 0 <= self.weight < float("inf"):
            raise ValueError(f"the weight of avoid must be 0 or a positive finite number, got {self.weight!r}")

    @classmethod
    def of(cls, value: Any) -> Avoid | None:
        """Returns an argument `avoid` as an object; `None` if nothing is to be avoided."""
        if value is None or (hasattr(value, "__len__") and len(value) == 0):
            return None
        avoid = value if isinstance(value, cls) else cls(value)
        is_empty = hasattr(avoid.rows, "__len__") and len(avoid.rows) == 0
        return None if is_empty or avoid.weight == 0 else avoid

    def features(self, width: int) -> Any:
        """Returns the feature rows, (b, d) float64.

        Raises:
            `ValueError`: If they are not numbers, not finite, or not as wide as the pool's.
        """
        rows = as_rows(self.rows, "avoid")
        if rows.shape[1] != width:
            raise ValueError(f"avoid has features of {rows.shape[1]} numbers, and the pool's rows have {width}")
        return finite(rows, "avoid")

    def objective(self, pool: Pool, gp: GaussianProcess) -> AvoidingITL:
        """Returns the objective for a prepared pool."""
        raw = self.features(pool.raw_dimension)
        prompts = blank_targets(pool.preparation(raw), raw).to(pool.device)
        if pool.feature_map is not None:
            prompts = pool.feature_map(prompts)
        avoid_gp = dataclasses.replace(gp, targets=prompts, target_weights=None, pivots=None)
        return AvoidingITL(gp, avoid_gp, float(self.weight))

    def to_json(self) -> dict[str, Any]:
        """Returns what a record says of them: their number, the weight, and a hash of their features."""
        rows = np.ascontiguousarray(np.asarray(as_rows(self.rows, "avoid")[:]), dtype=np.float64)  # (b, d)
        return {
            "rows": len(rows),
            "weight": float(self.weight),
            "hash": hashlib.sha256(rows.tobytes()).hexdigest()[:32],
        }
