"""`select_rows`: selection from feature arrays. It takes arrays and returns row numbers.

`Selector` embeds datasets, calls this function, and returns the picked rows of the dataset.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import Quality, each
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.already_selected import prepare_observed, read_already_selected
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import KernelSpec, resolve_kernel_spec
from itl_hf.selection.feature_arrays import Features, as_rows, check_widths, finite
from itl_hf.selection.large_pools import approximate, fit_to_memory
from itl_hf.selection.protocol import Acquisition, Noise, Raw, SelectionRequest, Text, resolve_texts
from itl_hf.selection.registry import describe_acquisition, resolve_acquisition
from itl_hf.selection.result.record import SelectionRecord
from itl_hf.selection.row_weights import (
    Numbers,
    check_uses,
    describe_numbers,
    of_rows,
    resolve_quality,
    resolve_target_weights,
)
from itl_hf.selection.shortlist.indexed_rows import indexed_rows
from itl_hf.selection.shortlist.options import DEFAULT_SHORTLIST, ShortlistLike, applicable_shortlist
from itl_hf.selection.shortlist.pick import ShortlistedPool

KernelLike = str | Kernel | Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class RowSelection:
    """Picked rows of a feature array.

    Args:
        indices (`np.ndarray`):
            (n,) int64 row numbers in the order picked.
        gains (`np.ndarray`):
            (n,) float64, what each pick adds to those before it: for ITL and the baselines the information about the
            targets in nats, otherwise the value of the objective, such as the variance that a pick of VTL removes.
        target_variance (`np.ndarray`):
            (n + 1, m) float64, posterior variance of f at each target after 0..n picks.
        similarity (`np.ndarray`):
            (n, m) float64, prior correlation of each pick with each target under the kernel.
        record (`SelectionRecord`):
            What was asked for and what was chosen: acquisition, kernel, noise and its rule, sizes.
        pool (`Pool`):
            The rows as they were prepared.
        gp (`GaussianProcess`):
            The Gaussian process that was used.

    Example:
        >>> from itl_hf import select_rows
        >>> picked = select_rows([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]], [[1.0, 0.0]], 2)
        >>> picked.indices.shape, picked.target_variance.shape
        ((2,), (3, 1))
    """

    indices: np.ndarray
    gains: np.ndarray
    target_variance: np.ndarray
    similarity: np.ndarray
    record: SelectionRecord
    pool: Pool = field(repr=False, compare=False)
    gp: GaussianProcess = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.indices)

    def then(self, rest: RowSelection) -> RowSelection:
        """This selection and one that continued it (with `already_selected`), as one."""
        return RowSelection(
            indices=np.concatenate([self.indices, rest.indices]),
            gains=np.concatenate([self.gains, rest.gains]),
            target_variance=np.concatenate([self.target_variance, rest.target_variance[1:]]),
            similarity=np.concatenate([self.similarity, rest.similarity]),
            record=self.record,
            pool=self.pool,
            gp=self.gp,
        )


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
            `"round_robin"`, `"information_density"`, `"badge"`, `"k_center"`, `"k_means"`, `"less"`, `"dsir"`,
            `"bm25"`), or an object such as `ITL(noise_std=1.0)`.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`):
            `"linear"`, `"rbf"`, `"exponential_cosine"`, `"laplace"`, `"cosine"`, an object of `itl_hf.gp.kernels`, or a
            function of two sets of rows that returns their kernel matrix, such as a `gpytorch` kernel.
        noise_std (`float` or `"auto"`, *optional*):
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

    Returns:
        `RowSelection`: `.indices`, `.gains`, `.target_variance`; fewer than `num_examples` rows where a constraint
            ended the selection.

    Raises:
        `ValueError`: If an array is empty, not two-dimensional, of another width, or holds NaN (the row is named),
            there are more picks than rows, a name is unknown, a noise is negative, a quality or a weight is out of its
            range, a shortlist is shorter than the picks, or the acquisition has no use for weights of targets.

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
    check_uses(acquisition, row_quality, weights)
    constraints = SelectionConstraints() if constraints is None else constraints
    text_rows = resolve_texts(acquisition, texts, (num_rows, num_targets), has_costs=constraints.costs is not None)
    observed_indices, observed_features = read_already_selected(already_selected, pool_rows)
    blocked_indices = constraints.blocked_rows(num_rows, observed_indices)
    check_count(num_examples, num_rows - len(blocked_indices), constraints.replace)
    availability = constraints.availability(num_examples, num_rows)
    spec = resolve_kernel_spec(kernel, standardize)
    applicable = applicable_shortlist(shortlist, acquisition, num_examples, constraints.replace, has_texts=False)
    prepared_pool = Pool(pool_rows, spec.standardization, row_quality)
    warn_unusual_rows(prepared_pool)
    raw_targets = finite(target_rows, "targets")  # (m, d)
    prepared_targets = prepared_pool.preparation(raw_targets).to(prepared_pool.device)  # (m, d)
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
    shortlisted = ShortlistedPool(prepared_pool, applicable)
    index = None if applicable is None else indexed_rows(pool, spec.standardization)
    shortlisted.make_list(spec.kernel, prepared_targets, request, index, weights)
    num_picks = num_examples + (len(observed_indices) or len(observed_features))
    spec = fit_to_memory(spec, shortlisted.pool, prepared_targets, num_picks)
    gp, noise_entries = spec.gaussian_process(acquisition, prepared_targets, num_examples, weights)
    gp, approximation = approximate(gp, shortlisted.pool, num_picks)
    shortlisted.share_feature_map()
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
        picks = shortlisted.pick(acquisition, gp, request)
        bar.update(len(picks.indices) - bar.n)
    rows = prepared_pool.rows(picks.indices)  # (n, d)
    qualities = observed_quality, prepared_pool.quality_of(picks.indices)
    prepared_pool.release()
    record = make_record(
        acquisition,
        spec,
        gp,
        prepared_pool,
        **noise_entries,
        already_selected=len(observed_rows),
        undirected=undirected,
        approximation=approximation,
        constraints=constraints.to_json(),
        shortlist=shortlisted.record(),
        quality=describe_numbers(row_quality),
        target_weights=describe_numbers(weights),
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


def target_variance(
    picks: Tensor, gp: GaussianProcess, observed_rows: Tensor, qualities: tuple[Quality, Quality] = (1.0, 1.0)
) -> Tensor:
    """Posterior variance of every target after 0..n picks, (n, d), (m, d) -> (n + 1, m) float64.

    `qualities` are those of the observed rows and of the picks.
    """
    posterior = gp.posterior()
    for rows, quality in zip((observed_rows, picks), qualities, strict=True):
        for row, row_quality in zip(rows, each(quality, len(rows)), strict=True):
            posterior.observe(row, row_quality)
    removed_variance = posterior.projections(gp.targets).square()  # (h + n, m)
    start = gp.kernel.diagonal(gp.targets) - removed_variance[: len(observed_rows)].sum(0)
    return torch.cat([start[None], removed_variance[len(observed_rows) :].neg()]).cumsum(0).clamp_min(0)


def correlation(rows: Tensor, gp: GaussianProcess) -> Tensor:
    """k(x, a) / sqrt(k(x, x) k(a, a)), (n, d), (m, d) -> (n, m)."""
    kernel, targets = gp.kernel, gp.targets
    scale = torch.outer(kernel.diagonal(rows), kernel.diagonal(targets)).sqrt()
    return kernel.cross(rows, targets) / scale.clamp_min(torch.finfo(torch.float64).tiny)


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
            stacklevel=3,
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


def warn_unusual_rows(pool: Pool) -> None:
    """Points out feature rows that are all zeros, and one that decides how all others are prepared."""
    if pool.zero_rows:
        warnings.warn(
            f"{len(pool.zero_rows)} feature rows of the pool are all zeros (the first is row {pool.zero_rows[0]}); "
            "an embedding that failed often looks like this. They are kept as they are.",
            stacklevel=3,
        )
    longest = pool.longest_row
    if longest.is_outlier:
        warnings.warn(
            f"row {longest.row} of the pool is {longest.ratio:.0f} times as far from the mean as the others and "
            f"{longest.share:.0%} of the variance by which features are standardized, which changes the picks among "
            "all other rows. An embedding that failed may look like this: look at the row, embed it again, or leave it "
            "out of the pool.",
            stacklevel=3,
        )


def make_record(
    acquisition: Acquisition, spec: KernelSpec, gp: GaussianProcess, pool: Pool, **entries: Any
) -> SelectionRecord:
    """The record of a selection from what it used; `entries` are further fields of `SelectionRecord`."""
    options = describe_acquisition(acquisition)
    return SelectionRecord(
        acquisition_name=acquisition.name,
        acquisition_options={key: value for key, value in options.items() if key != "name"},
        kernel_options=spec.kernel.describe(),
        kernel_rule=spec.rule,
        standardization_name=str(spec.standardization or "none"),
        noise_std=gp.noise_std,
        target_noise_std=gp.target_noise_std,
        pool_rows=pool.num_rows,
        dimension=pool.raw_dimension,
        **{"target_rows": len(gp.targets), **entries},
    )
