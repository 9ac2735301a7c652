"""Settings of ITL, ordered by predicted loss on the development sets: which of them should be trained next?

Nothing is trained here. ITL runs on prepared rows in the plain form of `recipes.benchmarks.greedy`; a shortlist of `c`
times the picks is the first part of round-robin's order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from itl_hf.gp.noise import spectrum_rank
from recipes.benchmarks.greedy import kernel_itl, nearest_rows

#: Names of the kernels of a selection, as functions of the cosine.
KERNELS = ("rbf", "linear", "rbf without a floor")
LENGTHSCALE = 0.6
MULTIPLES = (1 / 3, 1.0, 3.0)
SHORTLISTS = (1.0, 1.5, 2.0, 3.0, math.inf)


@dataclass(frozen=True)
class Setting:
    """A setting of ITL.

    Args:
        kernel (`str`, *optional*, defaults to `"rbf"`):
            One of `KERNELS`.
        multiple (`float`, *optional*, defaults to 1.0):
            Factor of the noise variance that the rule of the defaults gives.
        shortlist (`float`, *optional*, defaults to `inf`):
            Length of the shortlist as a multiple of the number of picks. 1 leaves no choice: it is round-robin.
    """

    kernel: str = "rbf"
    multiple: float = 1.0
    shortlist: float = math.inf

    def __str__(self) -> str:
        if self.shortlist == 1:
            return "round-robin"
        rows = "whole pool" if math.isinf(self.shortlist) else f"shortlist {self.shortlist:g} n"
        return f"{self.kernel}, noise x {self.multiple:.2g}, {rows}"


def settings() -> Iterator[Setting]:
    """Yields round-robin, every kernel with every shortlist, and every noise with the default kernel."""
    yield Setting(shortlist=1.0)
    for shortlist in SHORTLISTS[1:]:
        for kernel in KERNELS:
            for multiple in MULTIPLES if kernel == "rbf" else (1.0,):
                yield Setting(kernel, multiple, shortlist)


def kernel_of_cosines(cosines: np.ndarray, kernel: str) -> np.ndarray:
    """Returns kernel values of unit rows. The RBF without a floor is 0 for orthogonal rows and 1 for equal ones.

    Raises:
        `ValueError`: If there is no kernel of this name.
    """
    if kernel == "rbf":
        values: np.ndarray = np.exp((cosines - 1) / LENGTHSCALE)
        return values
    if kernel == "linear":
        return cosines
    if kernel == "rbf without a floor":
        values = np.expm1(cosines / LENGTHSCALE) / math.expm1(1 / LENGTHSCALE)
        return values
    raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}")


def rule_variance(targets: np.ndarray, kernel: str, num_picks: int) -> float:
    """Returns the noise variance of the rule of `itl_hf.gp.noise`, (m, m) cosines of the targets.

    For the kernel without a floor, which has no correlation q between unrelated rows, it is max(1, n / (4 rank)).
    """
    values = np.clip(np.linalg.eigvalsh(kernel_of_cosines(targets.astype(np.float64), kernel)), 0, None)
    picks_per_direction = num_picks / spectrum_rank(torch.from_numpy(values))
    if kernel == "linear":
        return picks_per_direction
    if kernel == "rbf":
        return max(1.0, picks_per_direction / math.expm1(1 / LENGTHSCALE))
    return max(1.0, picks_per_direction / 4)


def round_robin(cosines: np.ndarray, num_picks: int) -> np.ndarray:
    """Returns rows, each the most similar to the target whose turn it is among those not taken, (num_picks,).

    Args:
        cosines (`np.ndarray`):
            (m, N) cosines of targets and pool rows.
        num_picks (`int`):
            Number of rows, at most N.
    """
    depth = min(num_picks, cosines.shape[1])
    orders = [iter(order) for order in np.argsort(-cosines, axis=1, kind="stable")[:, :depth].tolist()]
    taken: dict[int, None] = {}
    while len(taken) < depth:
        for order in orders:
            nearest = next((row for row in order if row not in taken), None)
            if nearest is not None and len(taken) < depth:
                taken[nearest] = None
    return np.array(list(taken))


def picks(setting: Setting, pool: np.ndarray, targets: np.ndarray, num_picks: int) -> np.ndarray:
    """Returns the picks of ITL with a setting, (num_picks,) row numbers of the pool.

    Args:
        setting (`Setting`):
            The setting.
        pool (`np.ndarray`):
            (N, d) prepared rows of norm 1.
        targets (`np.ndarray`):
            (m, d) prepared targets of norm 1.
        num_picks (`int`):
            Number of picks.
    """
    cosines = targets @ pool.T  # (m, N)
    if setting.shortlist == 1:
        return round_robin(cosines, num_picks)
    if math.isinf(setting.shortlist):
        rows = nearest_rows(torch.from_numpy(cosines.T)).numpy()
    else:
        rows = np.sort(round_robin(cosines, math.ceil(setting.shortlist * num_picks)))
    kernels = [
        torch.from_numpy(kernel_of_cosines(values, setting.kernel))
        for values in (pool[rows] @ pool[rows].T, cosines[:, rows], targets @ targets.T)
    ]
    variance = setting.multiple * rule_variance(targets @ targets.T, setting.kernel, num_picks)
    chosen: np.ndarray = rows[kernel_itl(kernels[0], kernels[1], kernels[2], variance, num_picks).numpy()]
    return chosen


def paired_differences(
    values: Mapping[str, Mapping[str, Sequence[float]]], reference: str
) -> dict[str, tuple[float, float]]:
    """Returns each setting's mean difference to the reference and its standard error over sets.

    Args:
        values (`Mapping[str, Mapping[str, Sequence[float]]]`):
            Predicted losses by setting and target set, in the same order of pools and seeds.
        reference (`str`):
            Name of the setting that the others are compared with.
    """
    differences = {}
    for name, by_set in values.items():
        means = [float(np.mean(np.subtract(numbers, values[reference][key]))) for key, numbers in by_set.items()]
        error = float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.nan
        differences[name] = float(np.mean(means)), error
    return differences
