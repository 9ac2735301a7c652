"""What the gains of a selection are: for ITL and the baselines information about the targets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

#: What a pick's gain is, and its unit, where it is not the information about the targets in nats.
GAINS = {
    "vtl": ("variance of the targets removed", ""),
    "ctl": ("mean correlation with the targets", ""),
    "mean_marginal_itl": ("mean information about a single target", "nats"),
    "undirected": ("information about the whole function", "nats"),
}


def total_information(selection: Selection) -> float | None:
    """Information that all picks together give about the targets, in nats; `None` where gains are something else."""
    record = selection.record
    is_information = record.acquisition_name not in GAINS and "avoid" not in record.acquisition_options
    return float(np.sum(selection.gains)) if is_information else None


def whole_pool_information(selection: Selection) -> float | None:
    """Information that every row of the pool would give, in nats; `None` where it is not known or not comparable."""
    information, array = total_information(selection), selection.whole_pool_information
    if information is None or array is None or selection.record.already_selected:
        return None
    # Repeated picks can give more than every row once.
    return float(array[0]) if float(array[0]) >= information else None


def information_text(selection: Selection) -> str | None:
    """The information about the targets in words, with that of the whole pool if it is known.

    `None` where gains are something else.
    """
    information, whole_pool = total_information(selection), whole_pool_information(selection)
    if information is None:
        return None
    if whole_pool is None:
        return f"{information:.2f} nats"
    is_exact = (selection.record.attainable or {}).get("exact", True)
    return f"{information:.2f} of {'' if is_exact else 'at least '}{whole_pool:.2f} nats"


def gain_shares(gains: np.ndarray) -> np.ndarray:
    """Each gain as a share of the largest one, from 0 to 1, (n,)."""
    return np.clip(gains / (float(np.max(gains, initial=0.0)) or 1.0), 0.0, 1.0)


def gain_name(record: SelectionRecord) -> str:
    """Says what the gains of a selection are, with their unit."""
    name, unit = GAINS.get(record.acquisition_name, ("information about the targets", "nats"))
    if "avoid" in record.acquisition_options:
        name += " less that about the prompts to avoid"
    return f"{name} ({unit})" if unit else name


def gain_number(gain: float, gains: np.ndarray) -> str:
    """A gain with as many decimals as the largest one of its selection needs for three digits, so that columns align.

    Example:
        >>> gains = np.array([0.0974, 0.0041])
        >>> gain_number(gains[0], gains), gain_number(gains[1], gains), gain_number(12.4, np.array([123.0]))
        ('0.0974', '0.0041', '12')
    """
    largest = float(np.max(np.abs(gains), initial=0.0)) or 1.0
    return f"{gain:.{min(12, max(0, 2 - math.floor(math.log10(largest))))}f}"


def gain_text(gain: float, selection: Selection) -> str:
    """The gain of one pick, with its unit if it has one."""
    unit = GAINS.get(selection.record.acquisition_name, ("", "nats"))[1]
    return f"{gain_number(gain, selection.gains)} {unit}".rstrip()
