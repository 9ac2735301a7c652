"""`Selector`: reads, checks and embeds pool and targets, selects rows, and assembles the `Selection`."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from itl_hf.embedding.embedders.base import Embedder, check_embedder
from itl_hf.embedding.progress import progress_bars_enabled
from itl_hf.embedding.store.cache import FeatureCache
from itl_hf.embedding.store.store_checks import check_store_folder
from itl_hf.failure_detection import watch
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.acquisitions import ITL
from itl_hf.selection.avoid import Avoid
from itl_hf.selection.comparability import check_widths, warn_if_spans_differ
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.embed_job import EmbedJob, make_embed_job, resolve_store
from itl_hf.selection.feature_arrays import as_device, check_row_numbers
from itl_hf.selection.pool_memory import PoolMemory
from itl_hf.selection.protocol import Acquisition, Noise, check_sizes, reads_text
from itl_hf.selection.registry import resolve_acquisition
from itl_hf.selection.replay import Replay, ReplayDraw
from itl_hf.selection.result.assemble import SelectionInputs, assemble, package_versions
from itl_hf.selection.result.columns import check_columns
from itl_hf.selection.result.selection import Selection
from itl_hf.selection.result.umap_layout import LayoutName, check_layout
from itl_hf.selection.row_selection import RowSelection
from itl_hf.selection.row_weights import Numbers, RowNumbers, check_weighs_targets
from itl_hf.selection.screening.larger_pool import LargerPool
from itl_hf.selection.select_rows import KernelLike, check_count, select_rows
from itl_hf.selection.shortlist.options import (
    DEFAULT_SHORTLIST,
    ShortlistLike,
    applicable_shortlist,
    resolve_shortlist,
)
from itl_hf.selection.shortlist.two_stage import ListRequest, TwoStages
from itl_hf.selection.skipped_rows import SkippedRows
from itl_hf.selection.stream_rows import without_stream
from itl_hf.text import ColumnMapping, Row, TextRows, as_dataset, as_targets
from itl_hf.text.bad_rows import OnBadRows, check_on_bad_rows

Columns: TypeAlias = Mapping[str, str] | Sequence[str] | str | None
Rows: TypeAlias = Dataset | DatasetDict | IterableDataset | IterableDatasetDict | list[Row] | list[str]


class Selector:
    r"""Picks the rows of a pool that teach a model most about the targets.

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
        store (`str`, `PathLike` or `bool`, *optional*):
            Folder that keeps the features: interrupted embedding continues where it was, and the same rows are never
            embedded twice by the same model. Left out, it is the default cache, `ITL_HF_CACHE` or `itl_hf` in
            `HF_HOME`, which only you can read (`itl-hf cache list`, `itl-hf cache clear`); it keeps no features of
            embedders that may change without their fingerprint (`Embedder.default_cache`). `False` keeps none.
        shortlist (`int`, `"auto"`, `Embedder` or `Shortlist`, *optional*):
            Pick among the targets' nearest rows only, see `select_rows`. With an embedder (or `Shortlist(size,
            embedder)`) the list is made by its features, and `embedder` embeds only the rows on the list, the targets
            and `already_selected`: `Selector(HiddenStates(model), shortlist=SentenceEncoder(...))`. What a pool cannot
            teach is then measured on the list.
        on_bad_rows (`"error"` or `"skip"`, *optional*, defaults to `"error"`):
            What to do about rows that cannot be read, such as empty ones: raise an error that lists all of them by
            kind, or leave them out. Rows that were left out are in the record (`record.skipped`).
        columns (`dict[str, str]`, *optional*):
            Which column of the pool holds which part of a row, where its format is not recognised: `{"prompt":
            "question", "completion": "best_answer"}`; parts are `messages`, `prompt`, `completion`, `system`, `text`
            and `tools`. Targets that have these columns are read in the same way.
        prompt_template (`str`, *optional*):
            A prompt of several columns, such as `"{instruction}\n{input}"`.
        targets_columns (`dict[str, str]`, *optional*):
            The same as `columns` for targets with other columns.
        device (`str` or `torch.device`, *optional*):
            Where rows are compared, see `select_rows`. Left out, it is the GPU of the embedder, if it has one.

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
        store: str | os.PathLike[str] | bool | None = None,
        shortlist: ShortlistLike = DEFAULT_SHORTLIST,
        on_bad_rows: OnBadRows = "error",
        columns: Columns = None,
        prompt_template: str | None = None,
        targets_columns: Columns = None,
        device: str | torch.device | None = None,
    ) -> None:
        check_embedder(embedder)
        if getattr(acquisition, "avoid", None) is not None:
            raise ValueError("Selector embeds the prompts to avoid: pass them as text, select(..., avoid=[...])")
        if targets_embedder is not None:
            check_embedder(targets_embedder, "targets_embedder")
        self.embedder = embedder
        self.acquisition = resolve_acquisition(acquisition, noise_std=noise_std, seed=seed)
        self.kernel, self.targets_embedder = kernel, targets_embedder
        self.standardize = embedder.preparation if standardize is True else standardize
        resolve_kernel_spec(kernel, self.standardize)  # raises early
        check_layout(layout)
        self.layout: LayoutName = layout
        self.store = resolve_store(store)
        self.pool_memory = PoolMemory()
        self.shortlist = resolve_shortlist(shortlist)
        self.device = as_device(device)  # raises early
        self.on_bad_rows = check_on_bad_rows(on_bad_rows)
        self.columns = ColumnMapping.of(columns, prompt_template)
        self.targets_columns = ColumnMapping.of(targets_columns) or self.columns
        #: What is known of the pool that the rows were drawn from, in active rounds.
        self.larger_pool: LargerPool | None = None

    @watch()
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
        quality: str | Numbers | None = None,
        target_weights: str | Numbers | None = None,
        replay_share: float | Replay = 0.0,
        avoid: Rows | Avoid | None = None,
    ) -> Selection:
        """Embeds pool and targets, picks `num_examples` rows of the pool, and returns them with the reasons.

        Args:
            pool (`Dataset`, `DatasetDict`, `IterableDataset`, `list[dict]` or `list[str]`):
                Rows to pick from, with the columns `messages`, `prompt` and `completion`, or `text`, as in TRL. A
                stream is written to a temporary file, which is deleted when the process ends.
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
            quality (`str` or `Sequence[float]`, *optional*):
                Quality of each row's answer in (0, 1], see `select_rows`: N numbers, or the name of a column of the
                pool.
            target_weights (`str` or `Sequence[float]`, *optional*):
                How many copies of itself each target counts as, see `select_rows`: m numbers, or the name of a column
                of the targets.
            replay_share (`float` or [`Replay`], *optional*, defaults to 0.0):
                Share of the rows to train on that stand for the pool as a whole, against forgetting, such as 0.05:
                drawn at random from the rows that were not picked, or by `Replay(share, method="k_means", seed=0)`.
                They come behind the picks in `selection.training_dataset`, in `attach`, in [`SelectionSampler`] and in
                exports. Budgets and shares of groups are about the picks alone.
            avoid (same types as `targets`, or [`Avoid`], *optional*):
                Prompts whose tasks must not be learned: the information that a row gives about them is subtracted from
                that about the targets, times the weight of `Avoid(prompts, weight=1.0)`. For acquisition `"itl"`. A
                shortlist holds the nearest rows of the targets as without it.

        Returns:
            `Selection`: The picked rows, why each was picked, and the record of the selection.

        Raises:
            `ValueError`: If rows, columns or numbers are wrong; all of it is checked before the model runs.
        """
        pool_data, target_data = self.read(pool, targets, pool_split, targets_split)
        constraints = SelectionConstraints() if constraints is None else constraints
        observed_rows = check_row_numbers(
            () if already_selected is None else already_selected, len(pool_data), "already_selected"
        )
        check_columns(pool_data, target_data)
        if isinstance(self.store, Path):
            check_store_folder(self.store)
        numbers = RowNumbers.read(pool_data, target_data, quality, target_weights)
        check_weighs_targets(self.acquisition, numbers.target_weights)
        check_sizes(self.acquisition, len(pool_data), len(target_data))
        num_blocked = 0 if constraints.replace else len(set(observed_rows))
        check_count(num_examples, len(pool_data) - num_blocked, constraints.replace)
        shortlist = applicable_shortlist(self.shortlist, self.acquisition, num_examples, constraints.replace)
        pool_job, target_job = self.embed_jobs(pool_data, target_data, constraints.counts_tokens)
        resolved_constraints = constraints.resolve(pool_data, pool_job.reading, self.columns)
        blocked_rows = resolved_constraints.blocked_rows(len(pool_data), observed_rows)
        check_count(num_examples, len(pool_data) - len(blocked_rows), constraints.replace)
        # Raises before the model runs.
        availability = resolved_constraints.availability(num_examples, len(pool_data))
        skipped = SkippedRows.of(pool_job, target_job, shortlist)
        numbers = numbers.without_targets(target_job.reading.bad_rows.rows)
        target_job = target_job.without_bad_rows()
        check_count(num_examples, skipped.num_open(len(pool_data), blocked_rows), constraints.replace)
        replay = Replay.of(replay_share)
        if replay is not None:
            unreadable = np.asarray(pool_job.reading.bad_rows.rows, dtype=np.int64)
            closed_rows = np.union1d(np.asarray([*blocked_rows, *observed_rows], dtype=np.int64), unreadable)
            draw = ReplayDraw(replay, len(pool_data), closed_rows)
            draw.check(num_examples, shortlist is not None and shortlist.embedder is not None)
        skipped.check(observed_rows)
        check_widths(pool_job, target_job)
        avoid_job = None if (avoid := Avoid.of(avoid)) is None else self._avoid_job(avoid, pool_data, target_job)
        warn_if_spans_differ(pool_job, target_job)
        inputs = self._inputs(pool_job, target_job, constraints.to_json(resolved_constraints))
        inputs = dataclasses.replace(inputs, numbers=numbers, replay=None if replay is None else draw)
        selector = self
        if avoid_job is not None and avoid is not None:
            selector = self._avoiding(Avoid(avoid_job.embed(self.store), avoid.weight))
        if shortlist is None or shortlist.embedder is None:
            embed_pool = functools.partial(self.pool_memory.features, store=self.store)
            inputs = skipped.embed_pool(inputs, pool_job, embed_pool, blocked_rows)
            rows = selector._pick(inputs, num_examples, selector.acquisition, observed_rows, resolved_constraints)
        else:
            is_free = torch.ones(len(pool_data), dtype=torch.bool)
            is_free[blocked_rows] = False
            weighting = (numbers.target_weights, numbers.quality)
            request = ListRequest(availability, is_free, observed_rows, constraints.replace, *weighting)
            embed_pool = functools.partial(self.pool_memory.features, purpose="shortlist")
            stages = TwoStages(shortlist, pool_job, target_job, self.store, request, embed_pool)
            has_grown = True
            while has_grown:
                inputs = inputs.of_shortlist(stages)
                rows = selector._pick(inputs, num_examples, selector.acquisition, observed_rows, resolved_constraints)
                unusable_rows = inputs.pool_numbers(np.asarray(rows.pool.unusable.numbers, dtype=np.int64))
                has_grown = stages.grow(inputs.pool_numbers(rows.indices).tolist(), unusable_rows.tolist())
        if isinstance(self.store, FeatureCache):
            self.store.report()
        extend_fn = None
        if constraints.can_extend:
            extend_fn = functools.partial(selector._extend, inputs, rows, observed_rows, resolved_constraints)
        return assemble(rows, inputs, extend_fn)

    def _avoid_job(self, avoid: Avoid, pool: Dataset, target_job: EmbedJob) -> EmbedJob:
        """Reads and checks the prompts to avoid, which are embedded as the targets are."""
        self._avoiding(avoid)  # raises if the acquisition cannot avoid anything
        prompts, split = without_stream(avoid.rows, "avoid", None)
        rows = as_targets(prompts, TextRows(pool, self.columns), split, self.targets_columns)
        return make_embed_job(rows, "avoid", target_job.embedder)

    def _avoiding(self, avoid: Avoid) -> Selector:
        """Returns this selector with an acquisition that avoids prompts, of which `avoid` holds the features."""
        if not isinstance(self.acquisition, ITL) or self.acquisition.name != "itl":
            raise ValueError(f"avoid= is for acquisition 'itl', and this one is {self.acquisition.name!r}")
        selector = copy.copy(self)
        selector.acquisition = dataclasses.replace(self.acquisition, avoid=avoid)
        return selector

    def _pick(
        self,
        inputs: SelectionInputs,
        num_examples: int,
        acquisition: Acquisition,
        already_selected: Sequence[int],
        constraints: SelectionConstraints,
    ) -> RowSelection:
        """Picks rows; those of the result are numbered among the rows that have features."""
        texts, shortlist, embedded = inputs.texts, self.shortlist, inputs.embedded
        quality = inputs.numbers.quality
        if embedded is not None:
            if shortlist is not None and shortlist.embedder is not None:
                shortlist = None  # it was made already
            quality = None if quality is None else quality[embedded.rows]
            if not constraints.replace:  # fewer where budgets leave fewer
                num_examples = min(num_examples, embedded.num_open(already_selected))
            already_selected = embedded.positions(already_selected)
            constraints = embedded.constraints(constraints, len(inputs.pool))
            texts = None if texts is None else ([texts[0][row] for row in embedded.rows], texts[1])
        return select_rows(
            inputs.pool_features,
            inputs.target_features,
            num_examples,
            acquisition=acquisition,
            kernel=self.kernel,
            standardize=self.standardize,
            already_selected=already_selected,
            constraints=constraints,
            texts=texts,
            shortlist=shortlist,
            quality=quality,
            target_weights=inputs.numbers.target_weights,
            progress=progress_bars_enabled(),
            device=self._device(),
        )

    def _device(self) -> str | torch.device | None:
        """The device that was asked for, or the embedder's GPU: other accelerators may have no float64."""
        if self.device is not None:
            return self.device
        own = self.embedder.compute_device()
        return own if own.startswith("cuda") else None

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
        observed_rows = [*already_selected, *inputs.pool_numbers(rows.indices).tolist()]
        if inputs.embedded is not None and not constraints.replace:
            inputs.embedded.check_extension(num_examples, observed_rows)
        all_rows = rows.then(self._pick(inputs, num_examples, acquisition, observed_rows, constraints))
        extend_fn = functools.partial(self._extend, inputs, all_rows, already_selected, constraints)
        return assemble(all_rows, inputs, extend_fn)

    def read(
        self, pool: Rows, targets: Rows, pool_split: str | None = None, targets_split: str | None = None
    ) -> tuple[Dataset, Dataset]:
        """Returns pool and targets as datasets; the targets in the columns that are read.

        Args:
            pool (`Dataset`, `DatasetDict`, `IterableDataset`, `list[dict]` or `list[str]`):
                Rows to pick from.
            targets (same types):
                The task's prompts.
            pool_split (`str`, *optional*):
                Split of a `DatasetDict`.
            targets_split (`str`, *optional*):
                Split of a `DatasetDict`.

        Raises:
            `ValueError`: If there are no rows, or no format fits their columns.
        """
        pool, pool_split = without_stream(pool, "pool", pool_split)
        targets, targets_split = without_stream(targets, "targets", targets_split)
        pool_data = self.pool_memory.dataset(pool, pool_split, lambda: as_dataset(pool, "pool", pool_split))
        rows = TextRows(pool_data, self.columns)
        return pool_data, as_targets(targets, rows, targets_split, self.targets_columns)

    def of_read_rows(self) -> Selector:
        """Returns this selector for rows in the columns that are read: without names of columns."""
        selector = copy.copy(self)
        selector.columns = selector.targets_columns = None
        return selector

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
        skip: dict[str, Any] = {"skip_bad_rows": self.on_bad_rows == "skip"}
        keep_texts = reads_text(self.acquisition)
        cheap = None if self.shortlist is None else self.shortlist.embedder
        target_job = make_embed_job(
            targets, "targets", target_embedder, also_check=cheap, keep_texts=keep_texts, **skip
        )
        options: dict[str, Any] = {"count_tokens": count_tokens, "keep_texts": keep_texts, **skip}
        options["columns"] = self.columns
        make_job = functools.partial(
            make_embed_job, pool, "pool", pool_embedder, also_check=cheap, store=self.store, **options
        )
        pool_job = self.pool_memory.job(pool, pool_embedder, cheap, options, make_job)
        if self.larger_pool is not None:
            pool_job = dataclasses.replace(pool_job, reading=self.larger_pool.complete(pool_job.reading))
        return pool_job, target_job

    def _inputs(self, pool_job: EmbedJob, target_job: EmbedJob, constraints: dict[str, Any]) -> SelectionInputs:
        """Embeds the targets; the pool has no features yet."""
        record_entries = {
            "embedder": pool_job.fingerprint,
            "targets_embedder": target_job.fingerprint,
            "pool_fingerprint": pool_job.reading.keys.hash,
            "targets_fingerprint": target_job.reading.keys.hash,
            "versions": package_versions(),
            "constraints": constraints,
            "formats": {name: str(job.rows.format) for name, job in (("pool", pool_job), ("targets", target_job))},
            "columns": None if self.columns is None else self.columns.to_json(),
        }
        return SelectionInputs(
            pool_job.dataset,
            target_job.dataset,
            pool_job.reading,
            target_job.reading,
            np.zeros((0, pool_job.embedder.dimension), dtype=np.float32),
            target_job.embed(self.store),
            record_entries,
            self.layout,
            columns=self.columns,
        )
