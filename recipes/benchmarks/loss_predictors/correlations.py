"""Correlation between predictors and the measured loss among methods, with target sets as the unit.

A group is one pool, one set of targets and one seed (and, for losses by task, one task): its cells differ only in the
method. Levels of loss differ between groups and are not compared.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Fewer methods than this have no rank correlation worth averaging.
LEAST_METHODS = 3


@dataclass(frozen=True)
class Agreement:
    """How well a predictor orders methods.

    Args:
        ranks (`float`):
            Mean Spearman correlation of a group, mean over groups of a set, mean over sets.
        ranks_error (`float`):
            Standard error over sets.
        slope (`float`):
            Correlation of the differences from the group's means, all groups of a set together, mean over sets. Unlike
            ranks it gives little weight to methods whose losses hardly differ.
        slope_error (`float`):
            Standard error over sets.
        groups (`int`):
            Number of groups.
    """

    ranks: float
    ranks_error: float
    slope: float
    slope_error: float
    groups: int


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    means: np.ndarray = (last - (counts + 1) / 2)[inverse]
    return means


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Pearson's correlation; 0 if one side is constant, since it then predicts nothing."""
    first, second = first - first.mean(), second - second.mean()
    size = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / size if size > 1e-12 else 0.0


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's rank correlation, with mean ranks for equal values."""
    return correlation(ranks(first), ranks(second))


def agreement(
    losses: np.ndarray, values: np.ndarray, groups: Sequence[Hashable], sets: Mapping[Hashable, str]
) -> Agreement | None:
    """Returns the agreement of a predictor with the loss, or `None` if no group has enough methods.

    Args:
        losses (`np.ndarray`):
            (n,) measured losses.
        values (`np.ndarray`):
            (n,) predictions, NaN where there is none.
        groups (`Sequence[Hashable]`):
            (n,) group of each.
        sets (`Mapping[Hashable, str]`):
            Target set of each group.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        if not math.isnan(values[place]):
            members[group].append(place)
    by_set: dict[str, list[list[int]]] = defaultdict(list)
    for group, places in members.items():
        if len(places) >= LEAST_METHODS:
            by_set[sets[group]].append(places)
    if not by_set:
        return None
    in_ranks = [
        float(np.mean([spearman(losses[places], values[places]) for places in of_set])) for of_set in by_set.values()
    ]
    slopes = [correlation(_centred(losses, of_set), _centred(values, of_set)) for of_set in by_set.values()]
    num_groups = sum(map(len, by_set.values()))
    return Agreement(*mean_and_error(in_ranks), *mean_and_error(slopes), num_groups)


def _centred(values: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([values[places] - values[places].mean() for places in map(list, groups)])


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and its standard error; NaN as the error of one value."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), error
