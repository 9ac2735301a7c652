"""Picks rows with a method of a configuration: its acquisition with its noises, and other options of `select_rows`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from itl_hf import select_rows
from itl_hf.gp.kernels import RBF
from itl_hf.selection.registry import ACQUISITION_NAMES, resolve_acquisition
from recipes.benchmarks.fine_tuning.itl_in_turns import ItlInTurns

#: Acquisitions that use no features: their picks are the same for all kinds of features and are measured once.
FEATURELESS = frozenset({"random", "length_matched_random", "dsir", "bm25"})
DRAWS = frozenset({"random", "length_matched_random", "k_means", "badge", "dsir"})
#: What `acquisition` may be in a configuration.
NAMES = (*ACQUISITION_NAMES, ItlInTurns.name)
_TIMES_BUDGET = re.compile(r"(\d+(?:\.\d+)?)n")

Text = tuple[str, str]


def reads_texts(acquisition: str) -> bool:
    """Returns whether the acquisition of this name reads words or lengths instead of features."""
    return acquisition in FEATURELESS - {"random"}


def picked_rows(
    options: Mapping[str, Any],
    rows: np.ndarray,
    targets: np.ndarray,
    num_picks: int,
    *,
    seed: int,
    texts: tuple[Sequence[Text], Sequence[Text]],
) -> np.ndarray:
    """Returns the row numbers that a method picks, in its order, (n,).

    Args:
        options (`Mapping`):
            `acquisition`, its `noise_std` and `target_noise_std`, and further arguments of `itl_hf.select_rows`. A text
            such as `"1.5n"` stands for that many times the number of picks. `rbf` is the lengthscale of an RBF kernel.
            With `round_robin_share`, round-robin makes that share of the picks first, and the acquisition the others.
        rows (`np.ndarray`):
            (N, d) features of the pool.
        targets (`np.ndarray`):
            (m, d) features of the targets.
        num_picks (`int`):
            Number of picks.
        seed (`int`):
            Seed of acquisitions that draw.
        texts (`tuple[Sequence, Sequence]`):
            Prompt and completion of the pool's rows and of the targets, for acquisitions that read them.
    """
    options = resolve_options(options, num_picks)
    if "round_robin_share" in options:
        num_first = round(options.pop("round_robin_share") * num_picks)
        first = picked_rows({"acquisition": "round_robin"}, rows, targets, num_first, seed=seed, texts=texts)
        options["already_selected"] = first.tolist()
        return np.concatenate(
            [first, picked_rows(options, rows, targets, num_picks - num_first, seed=seed, texts=texts)]
        )
    if "rbf" in options:
        options["kernel"] = RBF(options.pop("rbf"))
    name = options.pop("acquisition")
    own = {key: options.pop(key) for key in ("noise_std", "target_noise_std", "balance") if key in options}
    acquisition: Any = (
        ItlInTurns(**own)
        if name == ItlInTurns.name
        else resolve_acquisition(name, seed=seed if name in DRAWS else None, **own)
    )
    selection = select_rows(
        rows, targets, num_picks, acquisition=acquisition, texts=texts if reads_texts(name) else None, **options
    )
    return np.asarray(selection.indices)


def resolve_options(options: Mapping[str, Any], num_picks: int) -> dict[str, Any]:
    """Returns the options with numbers in place of texts such as `"1.5n"`."""
    return {key: _resolve(value, num_picks) for key, value in options.items()}


def _resolve(value: Any, num_picks: int) -> Any:
    """Returns the number that a text such as `"1.5n"` stands for, and any other value as it is."""
    match = _TIMES_BUDGET.fullmatch(value) if isinstance(value, str) else None
    return round(float(match.group(1)) * num_picks) if match else value
