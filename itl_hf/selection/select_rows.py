"""`select_rows`: selection from feature arrays. It takes arrays and returns row numbers.

`Selector` embeds datasets, calls this function, and returns the picked rows of the dataset.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf.failure_detection import watch
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.already_selected import prepare_observed, read_already_selected
from itl_hf.selection.avoid import check_avoid, warn_of_losses
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.exactness_notice import (
    describe_exactness,
    describe_many_targets,
    warn_of_many_targets,
    warn_of_uncertain_picks,
)
from itl_hf.selection.feature_arrays import Features, as_device, as_rows, check_widths, finite
from itl_hf.selection.kept_features import open_pool, source_of
from itl_hf.selection.large_pools import approximate, fit_to_memory
from itl_hf.selection.measured_noise import noise_measurement
from itl_hf.selection.memory_limits import check_memory
from itl_hf.selection.protocol import Acquisition, Noise, Raw, SelectionRequest, Text, check_sizes, resolve_texts
from itl_hf.selection.registry import resolve_acquisition
from itl_hf.selection.row_selection import RowSelection, correlation, make_record, target_variance
from itl_hf.selection.row_weights import (
    Numbers,
    check_weighs_targets,
    describe_quality,
    describe_weights,
    of_rows,
    resolve_quality,
    resolve_target_weights,
    warn_if_unused,
)
from itl_hf.selection.shortlist.indexed_rows import indexed_rows
from itl_hf.selection.shortlist.options import DEFAULT_SHORTLIST, ShortlistLike, applicable_shortlist
from itl_hf.selection.shortlist.pick import ShortlistedPool
from itl_hf.selection.unusable_rows import blank_targets, describe_unusable, num_picks_left, warn_of_unusable

KernelLike = str | Kernel | Callable[[Tensor, Tensor], Any]


@watch()
def select_rows(
    pool: Features,
    targets: Features,
    num_examples: int,
    *,
    acquisition: str | Acquisition = "itl",
    kernel: KernelLike = "auto",
    noise_std: Noise | None = None,
    seed: int | None = None,
    standardize: bool | str | Standardization = True,
    already_selected: Sequence[int] | Features | None = None,
    constraints: SelectionConstraints | None = None,
    texts: tuple[Sequence[Text], Sequence[Text]] | None = None,
    shortlist: ShortlistLike = DEFAULT_SHORTLIST,
    quality: Numbers | None = None,
    target_weights: Numbers | None = None,
    progress: bool = False,
    device: str | torch.device | None = None,
) -> RowSelection:
    """Picks the rows of `pool` whose answers give most information about `targets`.

    Args:
        pool (`np.ndarray` or `torch.Tensor`):
            (N, d) feature rows of any float type; a memory map is read block by block, never copied. Under `torchrun`
            every process passes the same pool and reads its own part.
        targets (`np.ndarray` or `torch.Tensor`):
            (m, d) feature rows of the task's prompts.
        num_examples (`int`):
            Rows to pick.
        acquisition (`str` or `Acquisition`, *optional*, defaults to `"itl"`):
            `"itl"`, `"vtl"` (alias `"sift"`), `"mean_marginal_itl"`, `"ctl"`, `"undirected"`, a baseline
            (`itl_hf.selection.baselines`: `"random"`, `"length_matched_random"`, `"cosine"`, `"max_similarity"`,
            `"round_robin"`, `"balanced_round_robin"`, `"information_density"`, `"badge"`, `"k_center"`, `"k_means"`,
            `"less"`, `"less_round_robin"`, `"gist"`, `"unbalanced_transport"`, `"dsir"`, `"bm25"`), or an object such
            as `ITL(noise_std=1.0)`.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`):
            `"linear"`, `"rbf"`, `"exponential_cosine"`, `"laplace"`, `"cosine"`, an object of `itl_hf.gp.kernels`, or a
            function of two sets of rows that returns their kernel matrix, such as a `gpytorch` kernel.
        noise_std (`float`, `"auto"` or `"measured"`, *optional*):
            Noise of a row's answer, see `ITL`; `"auto"` when left out. `ITL(target_noise_std=...)` sets the noise of
            the targets.
        seed (`int`, *optional*):
            Seed of an acquisition that draws, such as `"random"`.
        standardize (`bool`, `str` or `Standardization`, *optional*, defaults to `True`):
            What is done to both arrays first, fitted on the pool. `True`: centre, every dimension to the same variance,
            every row to norm 1. `False`: nothing. Or a name: `"scale"`, `"dimensions"`, `"whiten"`, `"whiten-64"`, each
            also with `-unit` behind; or an `itl_hf.gp.standardization.Standardization`.
        already_selected (`Sequence[int]` or features, *optional*):
            What the model was trained on before: row numbers of the pool (they are not picked again unless
            `SelectionConstraints(replace=True)`), or (h, d) feature rows.
        constraints (`SelectionConstraints`, *optional*):
            Rows that may not be picked, budgets, shares of groups, when to stop, and whether rows may be picked again.
        texts (`tuple[Sequence, Sequence]`, *optional*):
            The texts of the N rows and of the m targets, each as strings or pairs (prompt, completion), for
            acquisitions that read words (`"dsir"`, `"bm25"`) or lengths.
        shortlist (`int`, `"auto"` or `Shortlist`, *optional*):
            Pick among so many rows only: those that the targets get by taking turns, each its nearest row that is not
            on the list yet, near-duplicates once (`Shortlist` has the rule). `"auto"` is 1.5 times `num_examples`,
            for objectives of the targets only. The picks are exact among these rows, not over the pool; preparation,
            kernel and noise are those of the whole pool. `None` is the whole pool.
        quality (`Sequence[float]`, *optional*):
            (N,) quality of each row's answer in (0, 1], such as a judge's score: the answer's noise variance is that of
            the selection over its quality, so that rows of quality near 0 are not picked. A row that was trained on
            before, given by its number, has its own quality, and a feature row 1.
        target_weights (`Sequence[float]`, *optional*):
            (m,) positive number for each target: a target of weight 2 counts as two copies of it.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a progress bar.
        device (`str` or `torch.device`, *optional*):
            Where the pool is computed with, such as `"cuda"`: blocks of it are copied there, and stay there while they
            fit. The device of `pool` when left out: arrays are on the CPU. The picks are the same.

    Returns:
        `RowSelection`: `.indices`, `.gains`, `.target_variance`; fewer than `num_examples` rows where a constraint
            ended the selection.

    Raises:
        `ValueError`: If a device is unknown or not there, an array is empty, not two-dimensional or of another width, a
            target holds NaN (it is named), there are more picks than rows, a name is unknown, a noise, a quality or a
            weight is out of its range, a shortlist is shorter than the picks, the acquisition has no use for weights of
            targets, the kernel is not finite for two rows (they are named), or the result would not fit in memory.

    Example:
        >>> import numpy as np
        >>> from itl_hf import select_rows
        >>> pool = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> select_rows(pool, [[1.0, 0.1]], num_examples=1).indices
        array([0])
    """
    pool_rows, target_rows = as_rows(pool, "pool"), as_rows(targets, "targets")
    num_rows, num_targets = pool_rows.shape[0], target_rows.shape[0]
    acquisition = resolve_acquisition(acquisition, noise_std=noise_std, seed=seed)
    check_widths(pool_rows, target_rows)
    row_quality = resolve_quality(quality, num_rows)
    weights = resolve_target_weights(target_weights, num_targets)
    check_weighs_targets(acquisition, weights)
    check_avoid(acquisition, pool_rows.shape[1])
    warn_if_unused(acquisition, row_quality)
    check_sizes(acquisition, num_rows, num_targets)
    constraints = SelectionConstraints() if constraints is None else constraints
    text_rows = resolve_texts(acquisition, texts, (num_rows, num_targets), has_costs=constraints.costs is not None)
    observed_indices, observed_features = read_already_selected(already_selected, pool_rows)
    blocked_indices = constraints.blocked_rows(num_rows, observed_indices)
    check_count(num_examples, num_rows - len(blocked_indices), constraints.replace)
    check_memory(acquisition, num_examples, num_rows, num_targets, pool_rows.shape[1])
    availability = constraints.availability(num_examples, num_rows)
    spec = resolve_kernel_spec(kernel, standardize)
    applicable = applicable_shortlist(shortlist, acquisition, num_examples, constraints.replace, has_texts=False)
    prepared_pool = open_pool(pool, pool_rows, spec.standardization, row_quality, as_device(device))
    unusable = describe_unusable(prepared_pool.unusable, constraints.pool_numbers)
    warn_of_unusable(unusable)
    warn_of_long_row(prepared_pool)
    if unusable:
        blocked_indices = sorted({*blocked_indices, *prepared_pool.unusable.numbers})
        num_open = num_rows - len(blocked_indices)
        num_examples = num_picks_left(num_examples, num_open, len(prepared_pool.unusable), constraints.replace)
        availability.num_examples = num_examples
        observed_indices = [row for row in observed_indices if row not in set(prepared_pool.unusable.numbers)]
    raw_targets = finite(target_rows, "targets")  # (m, d)
    prepared_targets = blank_targets(prepared_pool.preparation(raw_targets), raw_targets).to(prepared_pool.device)
    weights = None if weights is None else weights.to(prepared_pool.device)
    if observed_indices:
        observed_features = torch.as_tensor(pool_rows[observed_indices])
    observed_quality = of_rows(prepared_pool.quality, observed_indices)
    request = SelectionRequest(
        availability,
        constraints.replace,
        prepare_observed(prepared_pool, observed_indices, observed_features),
        blocked_indices,
        texts=text_rows,
        raw=Raw(raw_targets, observed_features),
        progress=progress,
        num_continued=0 if constraints.replace else len(set(observed_indices)),
        observed_quality=observed_quality,
    )
    shortlisted_pool = ShortlistedPool(prepared_pool, applicable)
    index = None if applicable is None else indexed_rows(source_of(pool), spec.standardization)
    shortlisted_pool.make_list(spec.kernel, prepared_targets, request, index, weights)
    num_picks = num_examples + (len(observed_indices) or len(observed_features))
    measured_noise = noise_measurement(prepared_pool, spec.kernel, prepared_targets, blocked_indices, weights)
    spec = fit_to_memory(spec, shortlisted_pool.pool, prepared_targets, num_picks)
    gp, noise_entries = spec.gaussian_process(acquisition, prepared_targets, num_examples, weights, measured_noise)
    gp, approximation = approximate(gp, shortlisted_pool.pool, num_picks)
    reduction = describe_many_targets(gp)
    warn_of_many_targets(reduction)
    shortlisted_pool.share_feature_map()
    undirected = is_undirected(acquisition, gp)
    observed_rows = prepare_observed(prepared_pool, observed_indices, observed_features)
    stop = None
    if constraints.stop_when is not None:
        irreducible = attainable_variance(
            prepared_pool, gp, observed_rows=observed_rows, observed_quality=observed_quality
        ).irreducible
        stop = constraints.stop_when.rule(gp, irreducible, len(observed_rows))
    with tqdm(total=num_examples, desc=f"selecting ({acquisition.name})", unit="row", disable=not progress) as bar:
        request = replace(request, observed_rows=observed_rows, on_picks=bar.update, stop=stop)
        picks = shortlisted_pool.pick(acquisition, gp, request)
        bar.update(len(picks.indices) - bar.n)
    rows = prepared_pool.rows(picks.indices)  # (n, d)
    qualities = observed_quality, prepared_pool.quality_of(picks.indices)
    prepared_pool.release()
    exactness = describe_exactness(picks.uncertainties)
    warn_of_uncertain_picks(exactness)
    warn_of_losses(acquisition, picks.gains)
    record = make_record(
        acquisition,
        spec,
        gp,
        prepared_pool,
        **noise_entries,
        already_selected=len(observed_rows),
        undirected=undirected,
        approximation=approximation,
        exactness=exactness,
        many_targets=reduction,
        constraints=constraints.to_json(),
        shortlist=shortlisted_pool.record(),
        quality=describe_quality(row_quality),
        target_weights=describe_weights(weights),
        unusable=unusable,
    )
    return RowSelection(
        indices=np.asarray(picks.indices, dtype=np.int64),
        gains=np.asarray(picks.gains, dtype=np.float64),
        target_variance=target_variance(rows, gp, observed_rows, qualities).cpu().numpy(),
        similarity=correlation(rows, gp).cpu().numpy(),
        record=record,
        pool=prepared_pool,
        gp=gp,
    )


def is_undirected(acquisition: Acquisition, gp: GaussianProcess) -> bool:
    """Checks whether the targets determine the whole function, so that ITL does not depend on them; warns if so.

    With noise-free targets ITL's `c` is the variance that is left once the targets are known. Targets that span the
    feature space leave none, and the score becomes that of uncertainty sampling.
    """
    targets = gp.targets
    least_weight = 1.0 if gp.target_weights is None else float(gp.target_weights.min())
    largest_noise_std = gp.target_noise_std / least_weight**0.5
    if acquisition.name != "itl" or largest_noise_std > 1e-3 * gp.noise_std or not gp.kernel.linear:
        return False
    spans_all = int(torch.linalg.matrix_rank(targets)) >= targets.shape[1]
    if spans_all:
        warnings.warn(
            f"the {len(targets)} targets span all {targets.shape[1]} feature dimensions and target_noise_std is "
            f"{gp.target_noise_std:g}: ITL does not depend on the targets and picks the rows with the largest "
            "posterior variance. Leave target_noise_std at its default, or use fewer targets or more features.",
            stacklevel=4,
        )
    return spans_all


def check_count(num_examples: int, open_rows: int, replace: bool) -> None:
    """Raises `ValueError` unless `num_examples` rows can be picked from so many; one is enough with `replace`."""
    if isinstance(num_examples, bool) or not isinstance(num_examples, int | np.integer) or num_examples < 1:
        raise ValueError(f"num_examples must be a whole number of at least 1, got {num_examples!r}")
    if num_examples > open_rows and not (replace and open_rows):
        raise ValueError(
            f"num_examples={num_examples} is more than the {open_rows} rows of the pool that can be picked"
        )


def warn_of_long_row(pool: Pool) -> None:
    """Points out a feature row that decides how all others are prepared."""
    longest = pool.longest_row
    if longest.is_outlier:
        warnings.warn(
            f"row {longest.row} of the pool is {longest.ratio:.0f} times as far from the mean as the others and "
            f"{longest.share:.0%} of the variance by which features are standardized, which changes the picks among "
            "all other rows. An embedding that failed may look like this: look at the row, embed it again, or leave it "
            "out of the pool.",
            stacklevel=4,
        )
