"""Datasets in, a selection out: embeds pool and targets, picks, and gathers what a reader of the result needs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from datasets import Dataset, DatasetDict

import itl_hf
from itl_hf.embedding.embed import embed, rows_fingerprint
from itl_hf.embedding.embedder import Embedder
from itl_hf.gp.kernels import Linear
from itl_hf.gp.objectives import Setting
from itl_hf.gp.pool import Pool
from itl_hf.gp.theory import pool_limits
from itl_hf.selection.acquisitions import Acquisition, Noise, check_noise, resolve_acquisition
from itl_hf.selection.defaults import Model, resolve_model
from itl_hf.selection.layout import principal_layout
from itl_hf.selection.rows import KernelLike, RowSelection, check_count, select_rows
from itl_hf.selection.selection import COLUMNS, Selection
from itl_hf.text import Row, as_dataset, row_format

Rows: TypeAlias = Dataset | DatasetDict | list[Row] | list[str]


class Selector:
    """Picks the rows of a pool that teach a model most about the targets.

    Args:
        embedder (`Embedder`): turns rows of text into feature rows, for example
            `HiddenStates("HuggingFaceTB/SmolLM2-135M-Instruct")`.
        acquisition (`str` or `Acquisition`, *optional*, defaults to `"itl"`): `"itl"`, `"cosine"`, `"random"`, or an
            object such as `ITL(noise_std=1.0)`.
        kernel (`str`, `Kernel` or `Callable`, *optional*, defaults to `"auto"`): kernel on the features, see
            `select_rows`.
        standardize (`bool` or `str`, *optional*, defaults to `True`): preparation of the features, see `select_rows`.
        noise_std (`float` or `"auto"`, *optional*): see `ITL`.
        target_noise_std (`float`, *optional*): see `ITL`.
        seed (`int`, *optional*): seed of `acquisition="random"`.
        store (`str` or `PathLike`, *optional*): folder that keeps the features. With it, interrupted embedding
            continues where it was and the same rows are never embedded twice; without it, features live in memory for
            one call.

    Example:
        >>> selector = Selector(HiddenStates("HuggingFaceTB/SmolLM2-135M-Instruct"), store="features")  # doctest: +SKIP
        >>> selection = selector.select(pool, ["What is the capital of France?"], num_examples=100)  # doctest: +SKIP
    """

    def __init__(
        self,
        embedder: Embedder,
        acquisition: str | Acquisition = "itl",
        *,
        kernel: KernelLike = "auto",
        standardize: bool | str = True,
        noise_std: Noise | None = None,
        target_noise_std: float | None = None,
        seed: int | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        self.embedder = embedder
        self.acquisition = resolve_acquisition(
            acquisition, noise_std=noise_std, target_noise_std=target_noise_std, seed=seed
        )
        check_noise(self.acquisition)
        self.kernel, self.standardize = kernel, standardize
        self.model = resolve_model(kernel, standardize)
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
    ) -> Selection:
        """Embeds both, picks `num_examples` rows of the pool, and returns them with the reasons.

        Args:
            pool (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`): rows to pick from, with the columns
                `messages`, `prompt` and `completion`, or `text`, as in TRL.
            targets (same types): the task's prompts; completions are not needed.
            num_examples (`int`): rows to pick.
            pool_split (`str`, *optional*): split of a `DatasetDict`.
            targets_split (`str`, *optional*): split of a `DatasetDict`.
            replace (`bool`, *optional*, defaults to `False`): whether a row may be picked again.

        Returns:
            `Selection`

        Raises:
            `ValueError`: bad rows, columns, or numbers; all of it is checked before the model runs.
        """
        pool_data, target_data = as_dataset(pool, "pool", pool_split), as_dataset(targets, "targets", targets_split)
        check_count(num_examples, len(pool_data), replace)
        _check_columns(pool_data, target_data)
        # Both are read before the model runs on either: a bad row at the end of the pool shows in seconds.
        hashes = {
            "targets": rows_fingerprint(target_data, self.embedder),
            "pool": rows_fingerprint(pool_data, self.embedder),
        }
        target_features = self._embed(target_data, "targets", hashes["targets"])
        pool_features = self._embed(pool_data, "pool", hashes["pool"])
        rows = select_rows(
            pool_features,
            target_features,
            num_examples,
            acquisition=self.acquisition,
            kernel=self.kernel,
            standardize=self.standardize,
            replace=replace,
            progress=True,
        )
        provenance = {
            "embedder": self.embedder.fingerprint(),
            "pool_fingerprint": hashes["pool"],
            "targets_fingerprint": hashes["targets"],
            "versions": versions(),
        }
        return _gather(rows, pool_data, target_data, pool_features, target_features, self.model, provenance)

    def _embed(self, dataset: Dataset, name: str, rows_hash: str) -> np.ndarray:
        work = json.dumps([self.embedder.fingerprint(), rows_hash], sort_keys=True)
        directory = None if self.store is None else self.store / hashlib.sha256(work.encode()).hexdigest()[:16]
        return embed(dataset, self.embedder, directory, description=f"embedding {name}", rows_hash=rows_hash)


def _gather(
    rows: RowSelection,
    pool: Dataset,
    targets: Dataset,
    pool_features: np.ndarray,
    target_features: np.ndarray,
    model: Model,
    provenance: dict[str, Any],
) -> Selection:
    prepared = Pool(pool_features, model.standardize)
    anchors = prepared.preparation(torch.tensor(target_features))
    kernel = Linear() if rows.record["kernel_chosen"].startswith("auto: linear") else model.kernel
    setting = Setting(kernel, anchors, rows.record["noise_std"], rows.record["target_noise_std"])
    limits = pool_limits(prepared, setting, include=rows.indices.tolist())
    measured = {
        "rows": limits.rows,
        "exact": limits.exact,
        "pool_effective_rank": limits.pool_rank,
        "usual_reach": limits.usual_reach,
    }
    return Selection(
        dataset=_picked(pool, rows),
        targets=targets,
        indices=rows.indices,
        gains=rows.gains,
        target_variance=rows.target_variance,
        irreducible=limits.irreducible.numpy(),
        whole_pool=limits.whole_pool.numpy(),
        reach=limits.reach.numpy(),
        pool_size=len(pool),
        record=rows.record | provenance | {"pool_limits": measured},
        layout=principal_layout(prepared, anchors, rows.indices.tolist()),
    )


def versions() -> dict[str, str]:
    """Versions of what the picks depend on."""
    found = {"itl_hf": itl_hf.__version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "datasets", "peft"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _check_columns(pool: Dataset, targets: Dataset) -> None:
    """Both must be readable, and the columns that the result adds must be free."""
    row_format(pool.column_names)
    row_format(targets.column_names)
    taken = sorted(set(COLUMNS) & set(pool.column_names))
    if taken:
        raise ValueError(f"pool already has the columns {taken}, which a selection adds; rename or remove them first")


def _picked(pool: Dataset, rows: RowSelection) -> Dataset:
    nearest = rows.similarity.argmax(1)
    columns = {
        "pool_index": rows.indices,
        "itl_rank": np.arange(len(rows)),
        "itl_gain": rows.gains,
        "itl_nearest_target": nearest,
        "itl_similarity": rows.similarity[np.arange(len(rows)), nearest],
    }
    table = pool.select(rows.indices).with_format("arrow")[:]  # few rows: in memory, without files or progress bars
    picked = Dataset(table.replace_schema_metadata(pool.features.arrow_schema.metadata))
    for name, values in columns.items():
        picked = picked.add_column(name, values.tolist())
    return picked
