"""`select_rows`: selection from feature arrays. It takes arrays and returns row numbers.

`Selector` embeds datasets, calls this function, and returns the picked rows of the dataset.
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
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import KernelSpec, resolve_kernel_spec
from itl_hf.selection.feature_arrays import Features, as_rows, check_row_numbers, check_widths, finite
from itl_hf.selection.large_pools import approximate, fit_to_memory
from itl_hf.selection.protocol import Acquisition, Noise, Raw, SelectionRequest, Text, check_sizes, resolve_texts
from itl_hf.selection.registry import describe_acquisition, resolve_acquisition
from itl_hf.selection.result.record import SelectionRecord

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
            `"round_robin"`, `"information_density"`, `"badge"`, `"k_center"`, `"k_means"`, `"less"`,
            `"less_round_robin"`, `"gist"`, `"unbalanced_transport"`, `"dsir"`, `"bm25"`), or an object such as
            `ITL(noise_std=1.0)`.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`):
            `"linear"`, `"rbf"`, `"laplace"`, `"cosine"`, an object of `itl_hf.gp.kernels`, or a function of two sets of
            rows that returns their kernel matrix, such as a `gpytorch` kernel.
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
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a progress bar.

    Returns:
        `RowSelection`: `.indices`, `.gains`, `.target_variance`; fewer than `num_examples` rows where a constraint
            ended the selection.

    Raises:
        `ValueError`: If an array is empty, not two-dimensional, of another width, or holds NaN (the row is named),
            there are more picks than rows, a name is unknown, or a noise is negative.

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
    check_sizes(acquisition, num_rows, num_targets)
    constraints = SelectionConstraints() if constraints is None else constraints
    text_rows = resolve_texts(acquisition, texts, (num_rows, num_targets), has_costs=constraints.costs is not None)
    observed_indices, observed_features = _read_already_selected(already_selected, pool_rows)
    blocked_indices = constraints.blocked_rows(num_rows, observed_indices)
    check_count(num_examples, num_rows - len(blocked_indices), constraints.replace)
    availability = constraints.availability(num_examples, num_rows)
    spec = resolve_kernel_spec(kernel, standardize)
    prepared_pool = Pool(pool_rows, spec.standardization)
    warn_zero_rows(prepared_pool)
    raw_targets = finite(target_rows, "targets")  # (m, d)
    prepared_targets = prepared_pool.preparation(raw_targets).to(prepared_pool.device)  # (m, d)
    num_picks = num_examples + (len(observed_indices) or len(observed_features))
    spec = fit_to_memory(spec, prepared_pool, prepared_targets, num_picks)
    gp, noise_entries = spec.gaussian_process(acquisition, prepared_targets, num_examples)
    gp, approximation = approximate(gp, prepared_pool, num_picks)
    undirected = is_undirected(acquisition, gp)
    if observed_indices:
        observed_rows = prepared_pool.rows(observed_indices)
        observed_features = torch.as_tensor(pool_rows[observed_indices])
    else:
        observed_rows = prepared_pool.prepare(observed_features).to(prepared_pool.device)
    stop = None
    if constraints.stop_when is not None:
        irreducible = attainable_variance(prepared_pool, gp, observed_rows=observed_rows).irreducible
        stop = constraints.stop_when.rule(gp, irreducible, len(observed_rows))
    with tqdm(total=num_examples, desc=f"selecting ({acquisition.name})", unit="row", disable=not progress) as bar:
        request = SelectionRequest(
            availability,
            constraints.replace,
            observed_rows,
            blocked_indices,
            bar.update,
            stop,
            text_rows,
            Raw(raw_targets, observed_features),
            progress,
            num_continued=0 if constraints.replace else len(set(observed_indices)),
        )
        picks = acquisition.pick(prepared_pool, gp, request)
        bar.update(len(picks.indices) - bar.n)
    rows = prepared_pool.rows(picks.indices)  # (n, d)
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
    )
    return RowSelection(
        indices=np.asarray(picks.indices, dtype=np.int64),
        gains=np.asarray(picks.gains, dtype=np.float64),
        target_variance=target_variance(rows, gp, observed_rows).cpu().numpy(),
        similarity=correlation(rows, gp).cpu().numpy(),
        record=record,
        pool=prepared_pool,
        gp=gp,
    )


def target_variance(picks: Tensor, gp: GaussianProcess, observed_rows: Tensor) -> Tensor:
    """Posterior variance of every target after 0..n picks, (n, d), (m, d) -> (n + 1, m) float64."""
    posterior = gp.posterior()
    for row in [*observed_rows, *picks]:
        posterior.observe(row)
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
    if acquisition.name != "itl" or gp.target_noise_std > 1e-3 * gp.noise_std or not gp.kernel.linear:
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


def _read_already_selected(already_selected: Any, pool: Any) -> tuple[list[int], Tensor]:
    """What the model was trained on before: row numbers of the pool, or (h, d) feature rows."""
    no_rows = torch.zeros(0, pool.shape[1])
    if already_selected is None or len(already_selected) == 0:
        return [], no_rows
    array = already_selected if isinstance(already_selected, Tensor) else np.asarray(already_selected)
    if array.ndim == 2:
        rows = finite(as_rows(array, "already_selected"), "already_selected")
        if rows.shape[1] != pool.shape[1]:
            raise ValueError(f"`already_selected` rows have {rows.shape[1]} features and `pool` rows {pool.shape[1]}")
        return [], rows
    return check_row_numbers(array, pool.shape[0], "already_selected"), no_rows


def warn_zero_rows(pool: Pool) -> None:
    """Points out feature rows that are all zeros."""
    if pool.zero_rows:
        warnings.warn(
            f"{len(pool.zero_rows)} feature rows of the pool are all zeros (the first is row {pool.zero_rows[0]}); "
            "an embedding that failed often looks like this. They are kept as they are.",
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
