"""Selects rows for each target separately: test-time fine-tuning, where each prompt has a training set of its own
(SIFT).

`select_rows` makes one set of picks for all targets. Here each target has its own picks, and thousands of targets are
processed together. Each target's candidates are the rows whose first answer would give most information about it; the
picks are those of `select_rows` on these candidates with that one target.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf import distributed
from itl_hf.failure_detection import watch
from itl_hf.gp.finite_kernel import check_finite, pool_row_names, target_names
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool, share
from itl_hf.gp.standardization import Standardization
from itl_hf.objectives.vtl import VTL
from itl_hf.search.exactness import MARGINS, ROUNDING, check_noise
from itl_hf.search.nearest_rows import PoolRows, nearest
from itl_hf.search.per_target import PerTargetRequest, greedy_per_target
from itl_hf.search.speculative import speculative_greedy
from itl_hf.selection.acquisitions import ITL
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.exactness_notice import describe_exactness, warn_of_uncertain_picks
from itl_hf.selection.feature_arrays import Features, as_device, as_rows, check_widths, finite
from itl_hf.selection.memory_limits import check_memory_per_target
from itl_hf.selection.protocol import Acquisition, Noise
from itl_hf.selection.registry import resolve_acquisition
from itl_hf.selection.result.record import SelectionRecord
from itl_hf.selection.row_selection import make_record
from itl_hf.selection.row_weights import Numbers, describe_quality, resolve_quality
from itl_hf.selection.select_rows import KernelLike, check_count, warn_of_long_row
from itl_hf.selection.unusable_rows import blank_targets, describe_unusable, num_picks_left, warn_of_unusable

#: Rows whose variance the noise is compared with.
SAMPLE_ROWS = 1000
#: If all rows are candidates and there are more than this, the pool is read block by block for each target instead.
MOST_WHOLE = 8192


@dataclass(frozen=True)
class PerTargetSelection:
    """Picked rows of a feature array, separately for each target.

    Args:
        indices (`np.ndarray`):
            (m, n) int64 row numbers in the order picked.
        gains (`np.ndarray`):
            (m, n) float64, the acquisition's gain of each pick: for VTL the fall of the target's variance, for ITL
            nats.
        target_variance (`np.ndarray`):
            (m, n + 1) float64, posterior variance of f at the target after 0..n picks.
        record (`SelectionRecord`):
            What was asked for and what was chosen: acquisition, kernel, noise and its rule, sizes.

    Example:
        >>> from itl_hf import select_rows_per_target
        >>> rows = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]]
        >>> select_rows_per_target(rows, [[1.0, 0.0], [0.0, 1.0]], 2).indices.shape
        (2, 2)
    """

    indices: np.ndarray
    gains: np.ndarray
    target_variance: np.ndarray
    record: SelectionRecord

    def __len__(self) -> int:
        return len(self.indices)


@watch()
def select_rows_per_target(
    pool: Features,
    targets: Features,
    num_examples: int,
    *,
    acquisition: str | Acquisition = "vtl",
    kernel: KernelLike = "auto",
    noise_std: Noise | None = None,
    num_candidates: int | None = 1000,
    standardize: bool | str | Standardization = True,
    replace: bool = False,
    quality: Numbers | None = None,
    progress: bool = False,
    device: str | torch.device | None = None,
) -> PerTargetSelection:
    """Picks, for each target, the rows of `pool` that give most information about that target.

    Args:
        pool (`np.ndarray` or `torch.Tensor`):
            (N, d) feature rows of any float type, or a memory map.
        targets (`np.ndarray` or `torch.Tensor`):
            (m, d) feature rows of the prompts.
        num_examples (`int`):
            Rows to pick for each target.
        acquisition (`str` or `Acquisition`, *optional*, defaults to `"vtl"`):
            `"vtl"` (alias `"sift"`) or `"itl"`, or an object such as `ITL(noise_std=1.0)`. With one target they make
            the same picks; their gains differ.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`):
            As in `select_rows`.
        noise_std (`float` or `"auto"`, *optional*):
            See `ITL`; `"auto"` when left out, by the rule for one target. SIFT's lambda is its square.
        num_candidates (`int`, *optional*, defaults to 1000):
            Rows to choose from for each target: those with the largest |k(x, a)| / sqrt(k(x, x) + noise variance),
            which for rows of norm 1 is the absolute inner product. `None` for all rows; a large pool then takes as long
            for each target as `select_rows`.
        standardize (`bool`, `str` or `Standardization`, *optional*, defaults to `True`):
            As in `select_rows`.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again for the same target.
        quality (`Sequence[float]`, *optional*):
            (N,) quality of each row's answer in (0, 1], as in `select_rows`. (Weights of targets have no meaning here:
            each target has its own picks.)
        progress (`bool`, *optional*, defaults to `False`):
            Show a progress bar.
        device (`str` or `torch.device`, *optional*):
            As in `select_rows`.

    Returns:
        `PerTargetSelection`: `.indices`, `.gains`, `.target_variance`, a row for each target.

    Raises:
        `ValueError`: If an array is empty, not two-dimensional or of another width, a target holds NaN (it is named),
            there are more picks than candidates, the acquisition has no form for one target, a name is unknown, a noise
            is negative, or a quality is out of its range.

    Example:
        >>> import numpy as np
        >>> from itl_hf.selection.per_target import select_rows_per_target
        >>> pool = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> select_rows_per_target(pool, [[1.0, 0.1], [0.1, 1.0]], num_examples=1).indices
        array([[0],
               [1]])
    """
    pool_rows, target_rows = as_rows(pool, "pool"), as_rows(targets, "targets")
    acquisition = resolve_acquisition(acquisition, noise_std=noise_std)
    if getattr(acquisition, "avoid", None) is not None:
        raise ValueError("avoid= has no form for one target at a time: use select_rows")
    if not (isinstance(acquisition, ITL) and acquisition.name in ("itl", "vtl")):
        raise ValueError(
            f"acquisition {acquisition.name!r} has no form for one target at a time; known: itl, sift, vtl"
        )
    check_widths(pool_rows, target_rows)
    check_count(num_examples, pool_rows.shape[0], replace)
    breadth = _check_candidates(num_candidates, num_examples, pool_rows.shape[0], replace)
    check_memory_per_target(int(num_examples), target_rows.shape[0], breadth)
    spec = resolve_kernel_spec(kernel, standardize)
    row_quality = resolve_quality(quality, pool_rows.shape[0])
    prepared_pool = Pool(_as_tensor(pool_rows), spec.standardization, row_quality, as_device(device))
    unusable = describe_unusable(prepared_pool.unusable)
    warn_of_unusable(unusable)
    warn_of_long_row(prepared_pool)
    num_usable = prepared_pool.num_rows - len(prepared_pool.unusable)
    if unusable:
        num_examples = num_picks_left(num_examples, num_usable, len(prepared_pool.unusable), replace)
        breadth = min(breadth, num_usable)
    raw_targets = finite(target_rows, "targets")  # (m, d)
    prepared_targets = blank_targets(prepared_pool.preparation(raw_targets), raw_targets).to(prepared_pool.device)
    # One noise for all targets: the rule uses the effective rank of the targets, which is 1 for a single one.
    gp, noise_entries = spec.gaussian_process(acquisition, prepared_targets[:1], num_examples)
    with tqdm(
        total=len(prepared_targets), desc=f"selecting ({acquisition.name})", unit="target", disable=not progress
    ) as bar:
        check_noise(gp.noise_std, gp.target_noise_std, _largest_variance(prepared_pool, gp, prepared_targets))
        indices, removed_variance = _pick(prepared_pool, prepared_targets, gp, (num_examples, breadth, replace), bar)
    prior = gp.kernel.diagonal(prepared_targets)  # (m,)
    variance = torch.cat([prior[:, None], removed_variance.neg()], dim=1).cumsum(1).clamp_min_(0)  # (m, n + 1)
    exactness = describe_exactness(_uncertainties(removed_variance, prior, gp.noise_std**2))
    warn_of_uncertain_picks(exactness)
    record = make_record(
        acquisition,
        spec,
        gp,
        prepared_pool,
        **noise_entries,
        target_rows=len(prepared_targets),
        num_candidates=breadth,
        constraints=SelectionConstraints(replace=replace).to_json(),
        quality=describe_quality(row_quality),
        unusable=unusable,
        exactness=exactness,
    )
    return PerTargetSelection(
        indices=indices.cpu().numpy(),
        gains=_gains(acquisition, removed_variance, variance, gp).cpu().numpy(),
        target_variance=variance.cpu().numpy(),
        record=record,
    )


def _pick(
    pool: Pool, prepared_targets: Tensor, gp: GaussianProcess, sizes: tuple[int, int, bool], bar: tqdm[Any]
) -> tuple[Tensor, Tensor]:
    """Returns row numbers, and by how much each pick lowers its target's variance, both (m, n)."""
    num_examples, breadth, replace = sizes
    kernel, noise_variance = gp.kernel, gp.noise_std**2
    if breadth == pool.num_rows - len(pool.unusable) > MOST_WHOLE:
        indices, gains = [], []
        for anchor in prepared_targets:
            alone = GaussianProcess(kernel, anchor[None], gp.noise_std, gp.target_noise_std)
            picks = speculative_greedy(pool, VTL(alone), num_examples, replace=replace, exclude=pool.unusable.numbers)
            indices.append(picks.indices)
            gains.append(picks.gains)
            bar.update()
        return torch.tensor(indices), torch.tensor(gains, dtype=torch.float64, device=prepared_targets.device)
    rows = PoolRows(pool)
    candidates = nearest(rows, prepared_targets, kernel, noise_variance, breadth)
    request = PerTargetRequest(kernel, noise_variance, num_examples, replace)
    # Each process scores its part of the pool for all targets, then picks for its part of the targets.
    mine = share(len(prepared_targets), distributed.rank(), distributed.world_size())
    bar.reset(total=mine.stop - mine.start)
    result = greedy_per_target(rows, candidates[mine], prepared_targets[mine], request, bar.update, mine.start)
    return distributed.gather_rows(result.indices), distributed.gather_rows(result.gains)


def _largest_variance(pool: Pool, gp: GaussianProcess, targets: Tensor) -> float:
    """The largest k(x, x) of evenly spaced rows and of the targets."""
    numbers = pool.spaced_rows(SAMPLE_ROWS)
    of_rows, of_targets = gp.kernel.diagonal(pool.rows(numbers)), gp.kernel.diagonal(targets)
    check_finite(of_rows[:, None], gp.kernel, pool_row_names(torch.tensor(numbers)), lambda _: "itself")
    check_finite(of_targets[:, None], gp.kernel, target_names(), lambda _: "itself")
    return float(torch.cat([of_rows, of_targets]).max())


def _uncertainties(gains: Tensor, target_prior: Tensor, noise_variance: float) -> list[float]:
    """By which share the gain of the least certain pick at each position may lie below the best, (m, n), (m,) -> n.

    A bound: rounding of the covariance with the target, and of the variance, where no variance but the noise is left.
    """
    prior = target_prior[:, None]
    of_cross = 2 * (prior.square() / (gains.clamp_min(0) * noise_variance)).sqrt()  # (m, n)
    shares = (MARGINS * ROUNDING * (of_cross + prior / noise_variance)).nan_to_num(nan=1.0).clamp_max(1.0)
    uncertainties: list[float] = shares.amax(0).tolist()
    return uncertainties


def _gains(acquisition: Acquisition, removed_variance: Tensor, variance: Tensor, gp: GaussianProcess) -> Tensor:
    """The gains in the acquisition's own unit, (m, n): for ITL 1/2 log of the ratio of the target's noisy variances."""
    if acquisition.name == "vtl":
        return removed_variance
    before = variance[:, :-1] + gp.target_noise_std**2
    # A share of 1 would mean a noise-free answer about a noise-free target, and infinite information.
    share = (removed_variance / before.clamp_min(torch.finfo(before.dtype).tiny)).clamp_max(1 - 1e-15)
    return -0.5 * torch.log1p(-share)


def _check_candidates(num_candidates: int | None, num_examples: int, pool_rows: int, replace: bool) -> int:
    """Returns the number of candidates of each target."""
    if num_candidates is None:
        return pool_rows
    whole = isinstance(num_candidates, int | np.integer) and not isinstance(num_candidates, bool)
    if not whole or num_candidates < 1:
        raise ValueError(f"num_candidates must be a whole number of at least 1, or None, got {num_candidates!r}")
    if num_examples > num_candidates and not replace:
        raise ValueError(f"num_examples={num_examples} is more than num_candidates={num_candidates}")
    return min(int(num_candidates), pool_rows)


def _as_tensor(rows: Any) -> Any:
    """An array in memory as a tensor that shares it; tensors and memory maps as they are."""
    if not isinstance(rows, np.ndarray):
        return rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that may not be written to; nothing here writes
        return torch.from_numpy(rows if min(rows.strides) >= 0 else rows.copy())
