"""Datasets in, a selection out: embeds pool and targets, picks, and gathers what a reader of the result needs."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict

from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.base import Embedder, Fingerprint, check_embedder
from itl_hf.embedding.progress import bars_wanted
from itl_hf.embedding.row_keys import RowKeys, row_keys
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.acquisitions import Acquisition, Noise, check_noise, resolve_acquisition
from itl_hf.selection.constraints import Shares, StopWhen, resolve_limits
from itl_hf.selection.costs import token_costs
from itl_hf.selection.defaults import resolve_model
from itl_hf.selection.feature_arrays import Features
from itl_hf.selection.protocol import texts_for
from itl_hf.selection.result.assemble import SelectionInputs, assemble, versions
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
        target_noise_std (`float`, *optional*):
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
        target_noise_std: float | None = None,
        seed: int | None = None,
        targets_embedder: Embedder | None = None,
        layout: LayoutName = "pca",
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        check_embedder(embedder)
        if targets_embedder is not None:
            check_embedder(targets_embedder, "targets_embedder")
        self.embedder = embedder
        self.acquisition = resolve_acquisition(
            acquisition, noise_std=noise_std, target_noise_std=target_noise_std, seed=seed
        )
        check_noise(self.acquisition)
        self.kernel, self.targets_embedder = kernel, targets_embedder
        self.standardize = embedder.preparation if standardize is True else standardize
        resolve_model(kernel, self.standardize)  # raises early
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
        replace: bool = False,
        already_selected: Sequence[int] | None = None,
        costs: str | Sequence[float] | None = None,
        token_budget: float | None = None,
        groups: str | Sequence[Any] | None = None,
        group_shares: Shares | None = None,
        stop_when: StopWhen | None = None,
    ) -> Selection:
        """Embeds both, picks `num_examples` rows of the pool, and returns them with the reasons.

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
            replace (`bool`, *optional*, defaults to `False`):
                Whether a row may be picked again.
            already_selected (`Sequence[int]`, *optional*):
                Rows of the pool that the model was trained on before.
            costs (`str` or `Sequence[float]`, *optional*):
                What each row costs: a column of the pool, or the numbers. Left out beside a `token_budget`, it is the
                row's tokens, completion included, by the embedder's tokenizer.
            token_budget (`float`, *optional*):
                What all picks may cost together, see `select_rows`.
            groups (`str` or `Sequence`, *optional*):
                Each row's group, such as its source: a column of the pool, or the labels.
            group_shares (`float` or `Mapping`, *optional*):
                What share of the picks groups may have, see `select_rows`.
            stop_when (`StopWhen`, *optional*):
                Stop earlier, see `select_rows`.

        Returns:
            `Selection`

        Raises:
            `ValueError`: Bad rows, columns, or numbers; all of it is checked before the model runs.
        """
        pool_data = as_dataset(pool, "pool", pool_split)
        target_data = as_targets(targets, pool_data, targets_split)
        check_count(num_examples, len(pool_data) - len(set(already_selected or ())) * (not replace), replace)
        _check_columns(pool_data, target_data)
        row_costs, row_groups = _column(pool_data, costs, "costs"), _column(pool_data, groups, "groups")
        counted = token_budget is not None and costs is None
        if counted:
            row_costs = token_costs(pool_data, self.embedder)
        resolve_limits(num_examples, len(pool_data), row_costs, token_budget, row_groups, group_shares)
        material = self._embed_both(pool_data, target_data)
        limited = {
            "costs": row_costs,
            "token_budget": token_budget,
            "groups": row_groups,
            "group_shares": group_shares,
            "stop_when": stop_when,
        }
        asked = {
            **limited,
            "costs": costs if isinstance(costs, str) else None,
            "groups": groups if isinstance(groups, str) else None,
            "stop_when": None if stop_when is None else dataclasses.asdict(stop_when),
        }
        # For whoever selects again; numbers that were given directly are not repeated.
        material.provenance["limits"] = {
            name: asked[name]
            for name, value in limited.items()
            if value is not None and not (counted and name == "costs")
        }
        rows = self._pick(material, num_examples, self.acquisition, replace, already_selected, **limited)
        more = None
        if all(value is None for value in limited.values()):
            more = functools.partial(self._extend, material, rows, replace, list(already_selected or ()))
        return assemble(rows, material, more)

    def _pick(
        self,
        material: SelectionInputs,
        num_examples: int,
        acquisition: Acquisition,
        replace: bool,
        known: Sequence[int] | None,
        **limited: Any,
    ) -> RowSelection:
        return select_rows(
            material.pool_features,
            material.target_features,
            num_examples,
            acquisition=acquisition,
            kernel=self.kernel,
            standardize=self.standardize,
            replace=replace,
            already_selected=known,
            progress=bars_wanted(),
            **texts_for(acquisition, material.pool, material.targets),
            **limited,
        )

    def _extend(
        self, material: SelectionInputs, rows: RowSelection, replace: bool, known: list[int], num_examples: int
    ) -> Selection:
        """The same selection with further picks; the noise stays what it was."""
        noise = {name: rows.record[name] for name in ("noise_std", "target_noise_std")}
        acquisition = dataclasses.replace(self.acquisition, **noise)  # type: ignore[type-var]
        rest = self._pick(material, num_examples, acquisition, replace, [*known, *rows.indices.tolist()])
        joined = rows.then(rest)
        return assemble(joined, material, functools.partial(self._extend, material, joined, replace, known))

    def works(self, pool: Dataset, targets: Dataset) -> tuple[Work, Work]:
        """The pool's and the targets' rows, checked and hashed, each with its embedder; no model runs."""
        # Both are read before the model runs on either: a bad row at the end of the pool shows in seconds.
        pool_embedder, target_embedder = self._embedders(targets)
        target_work = self._work(targets, "targets", target_embedder)
        return self._work(pool, "pool", pool_embedder), target_work

    def _embed_both(self, pool: Dataset, targets: Dataset) -> SelectionInputs:
        pool_work, target_work = self.works(pool, targets)
        if target_work.embedder.dimension != pool_work.embedder.dimension:
            raise ValueError(
                f"features of the targets have {target_work.embedder.dimension} numbers and those of the pool "
                f"{pool_work.embedder.dimension}: targets_embedder must be of the same kind"
            )
        _warn_if_spans_differ(pool_work, target_work)
        target_features, pool_features = (self._embed(work) for work in (target_work, pool_work))
        provenance = {
            "embedder": pool_work.fingerprint,
            "targets_embedder": target_work.fingerprint,
            "pool_fingerprint": pool_work.keys.hash,
            "targets_fingerprint": target_work.keys.hash,
            "versions": versions(),
        }
        return SelectionInputs(pool, targets, pool_features, target_features, provenance, self.layout)

    def _embedders(self, targets: Dataset) -> tuple[Embedder, Embedder]:
        """Those of the pool and of the targets; one may choose by what the targets hold."""
        if self.targets_embedder is not None:
            return self.embedder, self.targets_embedder
        embedder = self.embedder.for_targets(targets)
        return embedder, embedder

    def _work(self, dataset: Dataset, name: str, embedder: Embedder) -> Work:
        try:
            return Work(dataset, name, embedder, embedder.fingerprint(), row_keys(dataset, embedder))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _embed(self, work: Work) -> Features:
        directory = None
        if self.store is not None:
            directory = feature_directory(self.store, work.fingerprint, work.keys.hash)
        return embed(
            work.dataset,
            work.embedder,
            directory,
            description=f"embedding {work.name}",
            fingerprint=work.fingerprint,
            rows_hash=work.keys,
        )


@dataclasses.dataclass(frozen=True)
class Work:
    """Rows to embed, checked, with what identifies the work."""

    dataset: Dataset
    name: str
    embedder: Embedder
    fingerprint: Fingerprint
    keys: RowKeys


def _column(pool: Dataset, values: Any, name: str) -> Any:
    """A column of the pool where a name was given, else the values themselves."""
    if not isinstance(values, str):
        return values
    if values not in pool.column_names:
        raise ValueError(f"{name}: the pool has no column {values!r}; its columns are {pool.column_names}")
    return pool[values][:]


def _check_columns(pool: Dataset, targets: Dataset) -> None:
    """Both must be readable, and the columns that the result adds must be free."""
    row_format(pool.column_names)
    row_format(targets.column_names)
    taken = sorted(set(COLUMNS) & set(pool.column_names))
    if taken:
        raise ValueError(f"pool already has the columns {taken}, which a selection adds; rename or remove them first")


def _warn_if_spans_differ(pool: Work, targets: Work) -> None:
    """Points out that whole conversations are compared with prompts alone, which finds the rows without an answer."""
    spans = pool.fingerprint.get("span"), targets.fingerprint.get("span")
    if spans == ("whole", "whole") and plain_text(pool.dataset[0])[1] and not plain_text(targets.dataset[0])[1]:
        warnings.warn(
            "the pool's rows are embedded with their completions and the targets have none: whether a text has an "
            "answer is then most of what is compared. Use span='prompt', or give the targets completions.",
            stacklevel=4,
        )
