"""A selection on disk: a folder that plain `datasets.load_dataset(folder)` opens (Parquet), beside JSON for the record
and safetensors for the arrays. No format of our own and no pickle; written whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset
from safetensors.numpy import load_file, save_file

FORMAT_VERSION = 1
FACTS, NUMBERS = "selection.json", "arrays.safetensors"
ROWS, TARGETS = "data/train-00000-of-00001.parquet", "targets.parquet"
#: All that there is of a selection.
FILES = (FACTS, NUMBERS, ROWS, TARGETS)
#: Fields of a selection that are arrays.
ARRAYS = ("indices", "gains", "target_variance", "irreducible", "whole_pool", "reach")


def write(
    target: Path, dataset: Dataset, targets: Dataset, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> Path:
    """Writes the folder, whole or not at all; a selection that is there is replaced.

    Raises:
        FileExistsError: the folder holds something that is not a selection.
    """
    if target.exists() and any(target.iterdir()) and not (target / FACTS).exists():
        raise FileExistsError(f"{target} exists and holds no selection; choose another folder or empty it")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (draft / ROWS).parent.mkdir()
        write_parquet(dataset, draft / ROWS)
        write_parquet(targets, draft / TARGETS)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, draft / NUMBERS)
        text = json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2, ensure_ascii=False)
        (draft / FACTS).write_text(f"{text}\n", encoding="utf-8")
        draft.chmod(0o755)
        _swap(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def read(source: Path) -> tuple[Dataset, Dataset, dict[str, np.ndarray], dict[str, Any]]:
    """Picked rows, targets, arrays and facts of a folder that `write` wrote.

    Raises:
        FileNotFoundError: the folder holds no selection.
        ValueError: it was written by a newer version of this package.
    """
    if not (source / FACTS).exists():
        raise FileNotFoundError(f"{source} holds no selection (no {FACTS})")
    facts = json.loads((source / FACTS).read_text(encoding="utf-8"))
    if facts["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{source} was written by a newer itl_hf (format {facts['format_version']}): upgrade to read it"
        )
    return _read_parquet(source / ROWS), _read_parquet(source / TARGETS), load_file(source / NUMBERS), facts


def write_parquet(dataset: Dataset, path: Path) -> None:
    """As `Dataset.to_parquet`, types included, without a progress bar for a hundred rows."""
    table = dataset.with_format("arrow")[:]
    pq.write_table(table.replace_schema_metadata(dataset.features.arrow_schema.metadata), path)


def _read_parquet(path: Path) -> Dataset:
    """In memory and without a copy in the cache of `datasets`: the folder may be moved or deleted afterwards."""
    return Dataset(pq.read_table(path))


def _swap(draft: Path, target: Path) -> None:
    """Puts the finished folder in place; a folder cannot be renamed over a full one, so the old one steps aside
    first.
    """
    if not target.exists():
        os.rename(draft, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.rename(target, old / "selection")
    os.rename(draft, target)
    shutil.rmtree(old, ignore_errors=True)
