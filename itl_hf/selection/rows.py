"""Selection for those who already have feature rows: arrays in, row numbers out.

`Selector` is this function with an embedder in front and the datasets' rows behind.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf.gp.pool import Pool
from itl_hf.gp.posterior import Posterior
from itl_hf.selection.acquisitions import Acquisition, Noise, NoiseModel, describe, resolve_acquisition, resolve_noise

Features = np.ndarray | Tensor | Sequence[Sequence[float]]
KERNELS = ("linear",)


@dataclass(frozen=True)
class RowSelection:
    """Picked rows of a feature array.

    Args:
        indices (`np.ndarray`): (n,) int64 row numbers in the order picked.
        gains (`np.ndarray`): (n,) float64, information about the targets that each pick added, in nats.
        target_variance (`np.ndarray`): (n + 1, m) float64, posterior variance of f at each target after 0..n picks.
        similarity (`np.ndarray`): (n, m) float64, cosine of each pick with each target, on the prepared features.
        record (`dict`): what was asked for and what was chosen: acquisition, kernel, noise and its rule, sizes.
    """

    indices: np.ndarray
    gains: np.ndarray
    target_variance: np.ndarray
    similarity: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)


def select_rows(
    pool: Features,
    targets: Features,
    num_examples: int,
    *,
    acquisition: str | Acquisition = "itl",
    kernel: str = "linear",
    noise_std: Noise | None = None,
    target_noise_std: float | None = None,
    seed: int | None = None,
    replace: bool = False,
    standardize: bool = True,
    progress: bool = False,
) -> RowSelection:
    """Picks the rows of `pool` that tell most about `targets`.

    Args:
        pool (`np.ndarray` or `torch.Tensor`): (N, d) feature rows of any float type; a memory map is read block by
            block, never copied.
        targets (`np.ndarray` or `torch.Tensor`): (m, d) feature rows of the task's prompts.
        num_examples (`int`): rows to pick.
        acquisition (`str` or `Acquisition`, *optional*, defaults to `"itl"`): `"itl"`, `"cosine"`, `"random"`, or an
            object such as `ITL(noise_std=1.0)`.
        kernel (`str`, *optional*, defaults to `"linear"`): k(x, y) = phi(x).phi(y).
        noise_std (`float` or `"auto"`, *optional*): see `ITL`; `"auto"` when left out.
        target_noise_std (`float`, *optional*): see `ITL`; equal to `noise_std` when left out.
        seed (`int`, *optional*): seed of `acquisition="random"`.
        replace (`bool`, *optional*, defaults to `False`): whether a row may be picked again.
        standardize (`bool`, *optional*, defaults to `True`): centre both arrays by the pool's mean and scale to mean
            k(x, x) = 1.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.

    Returns:
        `RowSelection`: `.indices`, `.gains`, `.target_variance`.

    Raises:
        `ValueError`: arrays that are empty, not two-dimensional, of different width, or hold NaN (the row is named);
            more picks than rows; an unknown name; a negative noise.

    Example:
        >>> import numpy as np
        >>> from itl_hf import select_rows
        >>> pool = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> select_rows(pool, [[1.0, 0.1]], num_examples=1, standardize=False).indices
        array([0])
    """
    pool_rows, target_rows = _as_rows(pool, "pool"), _as_rows(targets, "targets")
    options = {"noise_std": noise_std, "target_noise_std": target_noise_std, "seed": seed}
    chosen = resolve_acquisition(acquisition, **options)
    _check(pool_rows, target_rows, num_examples, kernel, replace)
    prepared = Pool(pool_rows, standardize=standardize)
    _warn_zero_rows(prepared)
    anchors = prepared.standardization(_finite(target_rows, "targets"))  # (m, d)
    noise = resolve_noise(chosen, anchors, num_examples)
    with tqdm(total=num_examples, desc=f"selecting ({chosen.name})", unit="row", disable=not progress) as bar:
        picks = chosen.pick(prepared, anchors, num_examples, noise, replace, bar.update)
        bar.update(num_examples - bar.n)
    rows = prepared.rows(picks.indices)  # (n, d)
    return RowSelection(
        indices=np.asarray(picks.indices, dtype=np.int64),
        gains=np.asarray(picks.gains, dtype=np.float64),
        target_variance=target_variance(rows, anchors, noise).numpy(),
        similarity=(torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(anchors).T).numpy(),
        record=_record(chosen, noise, kernel, prepared, anchors, replace, standardize),
    )


def target_variance(picks: Tensor, targets: Tensor, noise: NoiseModel) -> Tensor:
    """Posterior variance of every target after 0..n picks, (n, d), (m, d) -> (n + 1, m) float64."""
    posterior = Posterior(targets.shape[1], noise.noise_std)
    removed = torch.stack([targets @ posterior.observe(row) for row in picks]).square()  # (n, m)
    variance = torch.cat([targets.square().sum(1)[None], removed.neg()]).cumsum(0)
    return variance.clamp_min(0)


def _as_rows(features: Features, name: str) -> np.ndarray | Tensor:
    """The array as it is, or a list turned into one; anything that is no float matrix is refused by name."""
    rows = features if isinstance(features, np.ndarray | Tensor) else np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"`{name}` must be a matrix of feature rows (N, d), got shape {tuple(rows.shape)}")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(f"`{name}` is empty: shape {tuple(rows.shape)}")
    if isinstance(rows, Tensor):
        rows = rows.detach().cpu()
    if not (rows.is_floating_point() if isinstance(rows, Tensor) else np.issubdtype(rows.dtype, np.floating)):
        raise ValueError(f"`{name}` must hold floats, got {rows.dtype}")
    return rows


def _finite(rows: np.ndarray | Tensor, name: str) -> Tensor:
    tensor = rows if isinstance(rows, Tensor) else torch.tensor(rows)
    bad = (~torch.isfinite(tensor).all(1)).nonzero()
    if len(bad):
        raise ValueError(
            f"row {int(bad[0])} of `{name}` holds NaN or infinity; embed it again or drop it before selecting"
        )
    return tensor


def _check(pool: Any, targets: Any, num_examples: int, kernel: str, replace: bool) -> None:
    if pool.shape[1] != targets.shape[1]:
        raise ValueError(
            f"`pool` rows have {pool.shape[1]} features and `targets` rows {targets.shape[1]}; "
            "embed both with the same embedder"
        )
    check_count(num_examples, pool.shape[0], replace)
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}")


def check_count(num_examples: int, pool_rows: int, replace: bool) -> None:
    """Raises `ValueError` unless `num_examples` rows can be picked from `pool_rows`."""
    if isinstance(num_examples, bool) or not isinstance(num_examples, int | np.integer) or num_examples < 1:
        raise ValueError(f"num_examples must be a whole number of at least 1, got {num_examples!r}")
    if not replace and num_examples > pool_rows:
        raise ValueError(f"num_examples={num_examples} is more than the {pool_rows} rows of the pool")


def _warn_zero_rows(pool: Pool) -> None:
    if pool.zero_rows:
        warnings.warn(
            f"{len(pool.zero_rows)} feature rows of the pool are all zeros (the first is row {pool.zero_rows[0]}); "
            "an embedding that failed often looks like this. They are kept as they are.",
            stacklevel=3,
        )


def _record(
    acquisition: Acquisition,
    noise: NoiseModel,
    kernel: str,
    pool: Pool,
    targets: Tensor,
    replace: bool,
    standardize: bool,
) -> dict[str, Any]:
    asked = describe(acquisition)
    return {
        "acquisition": acquisition.name,
        "asked": {key: value for key, value in asked.items() if key != "name"},
        "kernel": kernel,
        "standardize": standardize,
        "replace": replace,
        **asdict(noise),
        "pool_rows": pool.num_rows,
        "target_rows": len(targets),
        "dimension": pool.dimension,
    }
