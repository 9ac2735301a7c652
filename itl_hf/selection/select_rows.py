"""Selection for those who already have feature rows: arrays in, row numbers out.

`Selector` is this function with an embedder in front and the datasets' rows behind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.acquisitions import (
    Acquisition,
    Noise,
    SelectionRequest,
    check_noise,
    describe,
    resolve_acquisition,
)
from itl_hf.selection.constraints import Shares, StopWhen, resolve_limits
from itl_hf.selection.defaults import Model, resolve_model
from itl_hf.selection.feature_arrays import Features, as_rows, check_widths, finite
from itl_hf.selection.large_pools import approximate, fit_to_memory
from itl_hf.selection.protocol import Raw, Text, resolve_texts

KernelLike = str | Kernel | Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class RowSelection:
    """Picked rows of a feature array.

    Args:
        indices (`np.ndarray`):
            (n,) int64 row numbers in the order picked.
        gains (`np.ndarray`):
            (n,) float64, the acquisition's gain of each pick; for those without a Gaussian process of their own
            (`"cosine"`, `"random"`) and for ITL the information it added about the targets, in nats.
        target_variance (`np.ndarray`):
            (n + 1, m) float64, posterior variance of f at each target after 0..n picks.
        similarity (`np.ndarray`):
            (n, m) float64, prior correlation of each pick with each target under the kernel.
        record (`dict`):
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
    record: dict[str, Any]
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
    target_noise_std: float | None = None,
    seed: int | None = None,
    replace: bool = False,
    standardize: bool | str | Standardization = True,
    already_selected: Sequence[int] | Features | None = None,
    costs: Sequence[float] | np.ndarray | None = None,
    token_budget: float | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    group_shares: Shares | None = None,
    stop_when: StopWhen | None = None,
    texts: Sequence[Text] | None = None,
    target_texts: Sequence[Text] | None = None,
    progress: bool = False,
) -> RowSelection:
    """Picks the rows of `pool` that tell most about `targets`.

    Args:
        pool (`np.ndarray` or `torch.Tensor`):
            (N, d) feature rows of any float type; a memory map is read block by block, never copied. Under `torchrun`
            every process passes the same pool and reads its own part.
        targets (`np.ndarray` or `torch.Tensor`):
            (m, d) feature rows of the task's prompts.
        num_examples (`int`):
            Rows to pick.
        acquisition (`str` or `Acquisition`, *optional*, defaults to `"itl"`):
            `"itl"`, `"vtl"` (alias `"sift"`), `"mean_marginal_itl"`, `"ctl"`, `"undirected"`, a rival
            (`itl_hf.selection.baselines`: `"random"`, `"length_matched_random"`, `"cosine"`, `"max_similarity"`,
            `"round_robin"`, `"information_density"`, `"badge"`, `"k_center"`, `"k_means"`, `"less"`, `"dsir"`,
            `"bm25"`), or an object such as `ITL(noise_std=1.0)`.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`):
            `"linear"`, `"rbf"`, `"laplace"`, `"cosine"`, an object of `itl_hf.gp.kernels`, or a function (X, Y) -> k(X,
            Y) such as a `gpytorch` kernel.
        noise_std (`float` or `"auto"`, *optional*):
            See `ITL`; `"auto"` when left out.
        target_noise_std (`float`, *optional*):
            See `ITL`; equal to `noise_std` when left out.
        seed (`int`, *optional*):
            Seed of an acquisition that draws, such as `"random"`.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again.
        standardize (`bool`, `str` or `Standardization`, *optional*, defaults to `True`):
            What is done to both arrays first, fitted on the pool. `True`: centre, every dimension to the same variance,
            every row to norm 1. `False`: nothing. Or a name: `"scale"`, `"dimensions"`, `"whiten"`, `"whiten-64"`, each
            also with `-unit` behind; or an `itl_hf.gp.standardization.Standardization`.
        already_selected (`Sequence[int]` or features, *optional*):
            What the model was trained on before: row numbers of the pool (they are not picked again unless `replace`),
            or (h, d) feature rows.
        costs (`Sequence[float]`, *optional*):
            (N,) what each row costs, such as its tokens.
        token_budget (`float`, *optional*):
            What all picks may cost together. A row that no longer fits is skipped; among those that fit the objective
            decides. (Gain per token would fill the budget with the shortest rows.)
        groups (`Sequence`, *optional*):
            (N,) a label for each row, such as its source.
        group_shares (`float` or `Mapping`, *optional*):
            The largest share of `num_examples` for any group, or for some labels a pair (smallest, largest).
        stop_when (`StopWhen`, *optional*):
            Stop earlier, when a pick's gain or the variance that is left is small.
        texts (`Sequence`, *optional*):
            (N,) the pool's rows as strings, or pairs (prompt, completion), for acquisitions that read words (`"dsir"`,
            `"bm25"`) or lengths.
        target_texts (`Sequence`, *optional*):
            (m,) those of the targets.
        progress (`bool`, *optional*, defaults to `False`):
            Show a progress bar.

    Returns:
        `RowSelection`: `.indices`, `.gains`, `.target_variance`; fewer than `num_examples` rows where a budget, a share
            or `stop_when` ended it.

    Raises:
        `ValueError`: Arrays that are empty, not two-dimensional, of different width, or hold NaN (the row is named);
            more picks than rows; an unknown name; a negative noise.

    Example:
        >>> import numpy as np
        >>> from itl_hf import select_rows
        >>> pool = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> select_rows(pool, [[1.0, 0.1]], num_examples=1).indices
        array([0])
    """
    pool_rows, target_rows = as_rows(pool, "pool"), as_rows(targets, "targets")
    chosen = resolve_acquisition(acquisition, noise_std=noise_std, target_noise_std=target_noise_std, seed=seed)
    check_noise(chosen)
    check_widths(pool_rows, target_rows)
    sizes = (pool_rows.shape[0], target_rows.shape[0])
    words = resolve_texts(chosen, texts, target_texts, sizes, has_costs=costs is not None)
    known_numbers, known_rows = _known(already_selected, pool_rows)
    closed = [] if replace else known_numbers
    check_count(num_examples, pool_rows.shape[0] - len(set(closed)), replace)
    limits = resolve_limits(num_examples, pool_rows.shape[0], costs, token_budget, groups, group_shares)
    model = resolve_model(kernel, standardize)
    prepared = Pool(pool_rows, model.standardize)
    warn_zero_rows(prepared)
    raw_targets = finite(target_rows, "targets")  # (m, d)
    anchors = prepared.preparation(raw_targets).to(prepared.device)  # (m, d)
    picks = num_examples + (len(known_numbers) or len(known_rows))
    model = fit_to_memory(model, prepared, anchors, picks)
    gp, rule = model.gp(chosen, anchors, num_examples)
    gp, loss = approximate(gp, prepared, picks)
    undirected = is_undirected(chosen, gp)
    known = prepared.rows(known_numbers) if known_numbers else prepared.prepare(known_rows).to(prepared.device)
    stop = None
    if stop_when is not None:
        stop = stop_when.rule(gp, attainable_variance(prepared, gp, known=known).irreducible, len(known))
    raw = Raw(raw_targets, torch.as_tensor(pool_rows[known_numbers]) if known_numbers else known_rows)
    with tqdm(total=num_examples, desc=f"selecting ({chosen.name})", unit="row", disable=not progress) as bar:
        request = SelectionRequest(limits, replace, known, closed, bar.update, stop, words, raw, progress)
        picked = chosen.pick(prepared, gp, request)
        bar.update(len(picked.indices) - bar.n)
    rows = prepared.rows(picked.indices)  # (n, d)
    prepared.release()
    return RowSelection(
        indices=np.asarray(picked.indices, dtype=np.int64),
        gains=np.asarray(picked.gains, dtype=np.float64),
        target_variance=target_variance(rows, gp, known).cpu().numpy(),
        similarity=correlation(rows, gp).cpu().numpy(),
        record=make_record(chosen, model, gp, rule, prepared, replace)
        | loss
        | {"already_selected": len(known), "undirected": undirected},
        pool=prepared,
        gp=gp,
    )


def target_variance(picks: Tensor, gp: GaussianProcess, known: Tensor) -> Tensor:
    """Posterior variance of every target after 0..n picks, (n, d), (m, d) -> (n + 1, m) float64."""
    posterior = gp.posterior()
    for row in [*known, *picks]:
        posterior.observe(row)
    removed = posterior.projections(gp.targets).square()  # (h + n, m)
    start = gp.kernel.diagonal(gp.targets) - removed[: len(known)].sum(0)
    return torch.cat([start[None], removed[len(known) :].neg()]).cumsum(0).clamp_min(0)


def correlation(rows: Tensor, gp: GaussianProcess) -> Tensor:
    """k(x, a) / sqrt(k(x, x) k(a, a)), (n, d), (m, d) -> (n, m)."""
    kernel, targets = gp.kernel, gp.targets
    scale = torch.outer(kernel.diagonal(rows), kernel.diagonal(targets)).sqrt()
    return kernel.cross(rows, targets) / scale.clamp_min(torch.finfo(torch.float64).tiny)


def is_undirected(acquisition: Acquisition, gp: GaussianProcess) -> bool:
    """Whether the targets determine the whole function, so that ITL no longer looks at them; says so in plain words.

    With noise-free targets ITL's c is the variance that is left when the targets are known; targets that span the
    feature space leave none, and the score becomes that of uncertainty sampling.
    """
    targets = gp.targets
    if acquisition.name != "itl" or gp.target_noise_std > 1e-3 * gp.noise_std or not gp.kernel.linear:
        return False
    spans_all = int(torch.linalg.matrix_rank(targets)) >= targets.shape[1]
    if spans_all:
        warnings.warn(
            f"the {len(targets)} targets span all {targets.shape[1]} feature dimensions and target_noise_std is "
            f"{gp.target_noise_std:g}: ITL has lost its direction and picks what the model knows least about, "
            "whatever the targets. Leave target_noise_std at its default, or use fewer targets or more features.",
            stacklevel=3,
        )
    return spans_all


def check_count(num_examples: int, open_rows: int, replace: bool) -> None:
    """Raises `ValueError` unless `num_examples` rows can be picked from `open_rows`."""
    if isinstance(num_examples, bool) or not isinstance(num_examples, int | np.integer) or num_examples < 1:
        raise ValueError(f"num_examples must be a whole number of at least 1, got {num_examples!r}")
    if not replace and num_examples > open_rows:
        raise ValueError(
            f"num_examples={num_examples} is more than the {open_rows} rows of the pool that can be picked"
        )


def _known(already_selected: Any, pool: Any) -> tuple[list[int], Tensor]:
    """Row numbers, or feature rows, of what was trained on before."""
    none = torch.zeros(0, pool.shape[1])
    if already_selected is None or len(already_selected) == 0:
        return [], none
    array = already_selected if isinstance(already_selected, Tensor) else np.asarray(already_selected)
    if array.ndim == 2:
        rows = finite(as_rows(array, "already_selected"), "already_selected")
        if rows.shape[1] != pool.shape[1]:
            raise ValueError(f"`already_selected` rows have {rows.shape[1]} features and `pool` rows {pool.shape[1]}")
        return [], rows
    numbers = [int(number) for number in array]
    for number in numbers:
        if not 0 <= number < pool.shape[0]:
            raise ValueError(f"already_selected: row {number} is not among the {pool.shape[0]} rows of the pool")
    return numbers, none


def warn_zero_rows(pool: Pool) -> None:
    """Points out feature rows that are all zeros."""
    if pool.zero_rows:
        warnings.warn(
            f"{len(pool.zero_rows)} feature rows of the pool are all zeros (the first is row {pool.zero_rows[0]}); "
            "an embedding that failed often looks like this. They are kept as they are.",
            stacklevel=3,
        )


def make_record(
    acquisition: Acquisition,
    model: Model,
    gp: GaussianProcess,
    rule: dict[str, Any],
    pool: Pool,
    replace: bool,
) -> dict[str, Any]:
    """What was asked for and what was chosen, JSON types."""
    asked = describe(acquisition)
    return {
        "acquisition": acquisition.name,
        "asked": {key: value for key, value in asked.items() if key != "name"},
        **model.describe(),
        "noise_std": gp.noise_std,
        "target_noise_std": gp.target_noise_std,
        **rule,
        "replace": replace,
        "pool_rows": pool.num_rows,
        "target_rows": len(gp.targets),
        "dimension": pool.raw_dimension,
    }
