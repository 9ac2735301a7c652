"""What the gains of a selection are: for ITL and the baselines information about the targets."""

from __future__ import annotations

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


def gain_shares(gains: np.ndarray) -> np.ndarray:
    """Each gain as a share of the largest one, from 0 to 1, (n,)."""
    return np.clip(gains / (float(np.max(gains, initial=0.0)) or 1.0), 0.0, 1.0)


def gain_name(record: SelectionRecord) -> str:
    """Says what the gains of a selection are, with their unit."""
    name, unit = GAINS.get(record.acquisition_name, ("information about the targets", "nats"))
    if "avoid" in record.acquisition_options:
        name += " less that about the prompts to avoid"
    return f"{name} ({unit})" if unit else name


def gain_text(gain: float, record: SelectionRecord) -> str:
    """The gain of one pick, with its unit if it has one."""
    unit = GAINS.get(record.acquisition_name, ("", "nats"))[1]
    return f"{gain:.3g} {unit}".rstrip()
