"""`Selector`: reads, checks and embeds pool and targets, selects rows, and assembles the `Selection`."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset, DatasetDict

from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.base import Embedder, Fingerprint, check_embedder
from itl_hf.embedding.progress import progress_bars_enabled
from itl_hf.embedding.row_reading import RowReading, read_dataset
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.feature_arrays import Features, check_row_numbers
from itl_hf.selection.protocol import Acquisition, Noise, check_sizes, reads_text
from itl_hf.selection.registry import resolve_acquisition
from itl_hf.selection.result.assemble import SelectionInputs, assemble, package_versions
from itl_hf.selection.result.selection import COLUMNS, Selection
from itl_hf.selection.result.umap_layout import LayoutName, check_layout
from itl_hf.selection.select_rows import KernelLike, RowSelection, check_count, select_rows
from itl_hf.text import Row, as_dataset, as_targets, plain_text, row_format

Rows: TypeAlias = Dataset | DatasetDict | list[Row] | list[str]


class Selector:
    """Picks the rows of a pool that teach a model most about the targets.

    Args:
        embedder (`Embedder`):
            Turns rows of text into feature rows, for example `HiddenStates("HuggingFaceTB/SmolLM2-135M-Instruct")`.
        acquisition (`str` or `Acquisition`, *optional*, defaults to `"itl"`):
            `"itl"`, `"cosine"`, `"random"`, any other name that `select_rows` knows, or an object such as
            `ITL(noise_std=1.0)`.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`):
            Kernel on the features, see `select_rows`.
        standardize (`bool`, `str` or `Standardization`, *optional*, defaults to `True`):
            Preparation of the features, see `select_rows`; `True` is the embedder's own choice where it has one
            (`Combined` keeps its weights).
        noise_std (`float` or `"auto"`, *optional*):
            See `ITL`.
        seed (`int`, *optional*):
            Seed of an acquisition that draws, such as `"random"`.
        targets_embedder (`Embedder`, *optional*):
            Another embedder for the targets, whose features can be compared with the pool's. Left out, it is
            `embedder`; gradients of both are then taken on predicted labels where the targets have no completions.
        layout (`"pca"` or `"umap"`, *optional*, defaults to `"pca"`):
            The map in reports: principal components, or UMAP, which shows groups that lie on top of each other there
            (extra `umap`; a minute for 20,000 rows).
        store (`str` or `PathLike`, *optional*):
            Folder that keeps the features. With it, interrupted embedding continues where it was and the same rows are
            never embedded twice; without it, features live in memory for one call.

    Example:
        >>> from itl_hf import HiddenStates
        >>> selector = Selector(HiddenStates(model), store="features")
        >>> selection = selector.select(pool, ["How much is 30 + 12?"], num_examples=6)
        >>> selection.dataset.column_names[-5:]
        ['pool_index', 'itl_rank', 'itl_gain', 'itl_nearest_target', 'itl_similarity']
    """

    def __init__(
        self,
        embedder: Embedder,
        acquisition: str | Acquisition = "itl",
        *,
        kernel: KernelLike = "auto",
        standardize: bool | str | Standardization = True,
        noise_std: Noise | None = None,
        seed: int | None = None,
        targets_embedder: Embedder | None = None,
        layout: LayoutName = "pca",
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        check_embedder(embedder)
        if targets_embedder is not None:
            check_embedder(targets_embedder, "targets_embedder")
        self.embedder = embedder
        self.acquisition = resolve_acquisition(acquisition, noise_std=noise_std, seed=seed)
        self.kernel, self.targets_embedder = kernel, targets_embedder
        self.standardize = embedder.preparation if standardize is True else standardize
        resolve_kernel_spec(kernel, self.standardize)  # raises early
        check_layout(layout)
        self.layout: LayoutName = layout
        self.store = None if store is None else Path(store)

    def select(
        self,
        pool: Rows,
        targets: Rows,
        num_examples: int,
        *,
        pool_split: str | None = None,
        targets_split: str | None = None,
        already_selected: Sequence[int] | np.ndarray | None = None,
        constraints: SelectionConstraints | None = None,
    ) -> Selection:
        """Embeds pool and targets, picks `num_examples` rows of the pool, and returns them with the reasons.

        Args:
            pool (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`):
                Rows to pick from, with the columns `messages`, `prompt` and `completion`, or `text`, as in TRL.
            targets (same types):
                The task's prompts; completions are not needed.
            num_examples (`int`):
                Rows to pick.
            pool_split (`str`, *optional*):
                Split of a `DatasetDict`.
            targets_split (`str`, *optional*):
                Split of a `DatasetDict`.
            already_selected (`Sequence[int]`, *optional*):
                Rows of the pool that the model was trained on before.
            constraints (`SelectionConstraints`, *optional*):
                Rows that may not be picked, budgets, shares of groups, when to stop, and whether rows may be picked
                again. Costs and groups may be names of columns of the pool.

        Returns:
            `Selection`: The picked rows, why each was picked, and the record of the selection.

        Raises:
            `ValueError`: If rows, columns or numbers are wrong; all of it is checked before the model runs.
        """
        pool_data = as_dataset(pool, "pool", pool_split)
        target_data = as_targets(targets, pool_data, targets_split)
        constraints = SelectionConstraints() if constraints is None else constraints
        observed_rows = check_row_numbers(
            () if already_selected is None else already_selected, len(pool_data), "already_selected"
        )
        _check_columns(pool_data, target_data)
        check_sizes(self.acquisition, len(pool_data), len(target_data))
        num_blocked = 0 if constraints.replace else len(set(observed_rows))
        check_count(num_examples, len(pool_data) - num_blocked, constraints.replace)
        pool_job, target_job = self.embed_jobs(pool_data, target_data, constraints.counts_tokens)
        resolved_constraints = constraints.resolve(pool_data, pool_job.reading)
        num_open = len(pool_data) - len(resolved_constraints.blocked_rows(len(pool_data), observed_rows))
        check_count(num_examples, num_open, constraints.replace)
        resolved_constraints.availability(num_examples, len(pool_data))  # raises before the model runs
        inputs = self._embed_both(pool_job, target_job, constraints.to_json(resolved_constraints))
        rows = self._pick(inputs, num_examples, self.acquisition, observed_rows, resolved_constraints)
        extend_fn = None
        if constraints.can_extend:
            extend_fn = functools.partial(self._extend, inputs, rows, observed_rows, resolved_constraints)
        return assemble(rows, inputs, extend_fn)

    def _pick(
        self,
        inputs: SelectionInputs,
        num_examples: int,
        acquisition: Acquisition,
        already_selected: Sequence[int],
        constraints: SelectionConstraints,
    ) -> RowSelection:
        return select_rows(
            inputs.pool_features,
            inputs.target_features,
            num_examples,
            acquisition=acquisition,
            kernel=self.kernel,
            standardize=self.standardize,
            already_selected=already_selected,
            constraints=constraints,
            texts=inputs.texts,
            progress=progress_bars_enabled(),
        )

    def _extend(
        self,
        inputs: SelectionInputs,
        rows: RowSelection,
        already_selected: list[int],
        constraints: SelectionConstraints,
        num_examples: int,
    ) -> Selection:
        """The same selection with further picks and the same noise."""
        noise = {"noise_std": rows.record.noise_std, "target_noise_std": rows.record.target_noise_std}
        acquisition = dataclasses.replace(self.acquisition, **noise)  # type: ignore[type-var]
        observed_rows = [*already_selected, *rows.indices.tolist()]
        all_rows = rows.then(self._pick(inputs, num_examples, acquisition, observed_rows, constraints))
        extend_fn = functools.partial(self._extend, inputs, all_rows, already_selected, constraints)
        return assemble(all_rows, inputs, extend_fn)

    def embed_jobs(self, pool: Dataset, targets: Dataset, count_tokens: bool = False) -> tuple[EmbedJob, EmbedJob]:
        """Reads, checks and hashes the pool's and the targets' rows; no model runs.

        Args:
            pool (`Dataset`):
                Rows to pick from.
            targets (`Dataset`):
                The task's prompts.
            count_tokens (`bool`, *optional*, defaults to `False`):
                Whether to count the tokens of the pool's rows.

        Returns:
            `tuple[EmbedJob, EmbedJob]`: The pool's and the targets' rows, each with its embedder.
        """
        # Both are read before the model runs on either: a bad row at the end of the pool shows in seconds.
        if self.targets_embedder is None:
            pool_embedder = target_embedder = self.embedder.for_targets(targets)
        else:
            pool_embedder, target_embedder = self.embedder, self.targets_embedder
        keep_texts = reads_text(self.acquisition)
        target_job = _embed_job(targets, "targets", target_embedder, keep_texts=keep_texts)
        return _embed_job(pool, "pool", pool_embedder, count_tokens=count_tokens, keep_texts=keep_texts), target_job

    def _embed_both(self, pool_job: EmbedJob, target_job: EmbedJob, constraints: dict[str, Any]) -> SelectionInputs:
        if target_job.embedder.dimension != pool_job.embedder.dimension:
            raise ValueError(
                f"features of the targets have {target_job.embedder.dimension} numbers and those of the pool "
                f"{pool_job.embedder.dimension}: targets_embedder must be of the same kind"
            )
        _warn_if_spans_differ(pool_job, target_job)
        target_features, pool_features = (self._embed(job) for job in (target_job, pool_job))
        record_entries = {
            "embedder": pool_job.fingerprint,
            "targets_embedder": target_job.fingerprint,
            "pool_fingerprint": pool_job.reading.keys.hash,
            "targets_fingerprint": target_job.reading.keys.hash,
            "versions": package_versions(),
            "constraints": constraints,
        }
        return SelectionInputs(
            pool_job.dataset,
            target_job.dataset,
            pool_job.reading,
            target_job.reading,
            pool_features,
            target_features,
            record_entries,
            self.layout,
        )

    def _embed(self, job: EmbedJob) -> Features:
        directory = None
        if self.store is not None:
            directory = feature_directory(self.store, job.fingerprint, job.reading.keys.hash)
        return embed(
            job.dataset,
            job.embedder,
            directory,
            description=f"embedding {job.name}",
            fingerprint=job.fingerprint,
            rows_hash=job.reading.keys,
        )


@dataclasses.dataclass(frozen=True)
class EmbedJob:
    """Rows to embed, read and checked.

    Args:
        dataset (`Dataset`):
            The rows.
        name (`str`):
            `"pool"` or `"targets"`, for messages.
        embedder (`Embedder`):
            What embeds them.
        fingerprint (`dict`):
            The embedder's fingerprint.
        reading (`RowReading`):
            What the one pass over the rows' text found.
    """

    dataset: Dataset
    name: str
    embedder: Embedder
    fingerprint: Fingerprint
    reading: RowReading


def _embed_job(dataset: Dataset, name: str, embedder: Embedder, **options: bool) -> EmbedJob:
    try:
        return EmbedJob(dataset, name, embedder, embedder.fingerprint(), read_dataset(dataset, embedder, **options))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _check_columns(pool: Dataset, targets: Dataset) -> None:
    """Both must be readable, and the columns that the result adds must be free."""
    row_format(pool.column_names)
    row_format(targets.column_names)
    occupied_columns = sorted(set(COLUMNS) & set(pool.column_names))
    if occupied_columns:
        raise ValueError(
            f"pool already has the columns {occupied_columns}, which a selection adds; rename or remove them first"
        )


def _warn_if_spans_differ(pool: EmbedJob, targets: EmbedJob) -> None:
    """Points out that whole conversations are compared with prompts alone, which finds the rows without an answer."""
    spans = pool.fingerprint.get("span"), targets.fingerprint.get("span")
    if spans == ("whole", "whole") and plain_text(pool.dataset[0])[1] and not plain_text(targets.dataset[0])[1]:
        warnings.warn(
            "the pool's rows are embedded with their completions and the targets have none: whether a text has an "
            "answer is then most of what is compared. Use span='prompt', or give the targets completions.",
            stacklevel=4,
        )
