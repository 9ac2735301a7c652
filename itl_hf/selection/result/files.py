"""Reads and writes a selection on disk.

The folder holds the picked rows and the targets as Parquet, so that `datasets.load_dataset(folder)` opens it, the
record as JSON and the arrays as safetensors.
"""

from __future__ import annotations

import hashlib
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

from itl_hf.embedding.store.atomic_files import DamagedError
from itl_hf.embedding.store.file_modes import set_modes
from itl_hf.text.json_feature import as_stored

FORMAT_VERSION = 1
FACTS, NUMBERS = "selection.json", "arrays.safetensors"
ROWS, TARGETS = "data/train-00000-of-00001.parquet", "targets.parquet"
#: All files of a selection.
FILES = (FACTS, NUMBERS, ROWS, TARGETS)
#: Fields of a selection that are arrays.
ARRAYS = ("indices", "gains", "target_variance", "irreducible", "whole_pool", "reach")


def write(
    target: Path, dataset: Dataset, targets: Dataset, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> Path:
    """Writes the four files of a selection. The files of an earlier selection in the folder are replaced, others stay.

    A new folder appears whole or not at all. In a folder that exists each file is replaced whole, `selection.json`
    last; it holds the checksums of the others, so that a replacement that was interrupted is found when it is read.

    Raises:
        `FileExistsError`: If the folder holds files but no selection.
    """
    if target.exists() and any(target.iterdir()) and not (target / FACTS).exists():
        raise FileExistsError(f"{target} exists and holds no selection; choose another folder or empty it")
    target.parent.mkdir(parents=True, exist_ok=True)
    exists = target.exists()
    # Within a folder that exists: it may be a link to another disk, over which files cannot be renamed.
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target if exists else target.parent))
    try:
        (draft / ROWS).parent.mkdir()
        write_parquet(dataset, draft / ROWS)
        write_parquet(targets, draft / TARGETS)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, draft / NUMBERS)
        checksums = {name: _sha256(draft / name) for name in (NUMBERS, ROWS, TARGETS)}
        header = {"format_version": FORMAT_VERSION, "sha256": checksums}
        text = json.dumps({**header, **facts}, indent=2, ensure_ascii=False)
        (draft / FACTS).write_text(f"{text}\n", encoding="utf-8")
        set_modes(draft, draft.parent)
        if exists:
            _replace_files(draft, target)
        else:
            os.rename(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def read(source: Path) -> tuple[Dataset, Dataset, dict[str, np.ndarray], dict[str, Any]]:
    """Reads the picked rows, the targets, the arrays and the facts that `write` wrote.

    Raises:
        `FileNotFoundError`: If the folder holds no selection.
        `ValueError`: If it was written by a newer version of this package.
        `DamagedError`: If a file is not the one that was written; a `ValueError`.
    """
    if not (source / FACTS).exists():
        raise FileNotFoundError(f"{source} holds no selection (no {FACTS})")
    facts = json.loads((source / FACTS).read_text(encoding="utf-8"))
    if facts["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{source} was written by a newer itl_hf (format {facts['format_version']}): upgrade to read it"
        )
    for name, checksum in facts.get("sha256", {}).items():
        if _sha256(source / name) != checksum:
            raise DamagedError(
                f"{source / name} is damaged or belongs to another selection: its checksum differs from the one in "
                f"{FACTS}. Select again with the same arguments"
            )
    return _read_parquet(source / ROWS), _read_parquet(source / TARGETS), load_file(source / NUMBERS), facts


def write_parquet(dataset: Dataset, path: Path) -> None:
    """Writes a dataset with its types, as `Dataset.to_parquet` does, but without a progress bar."""
    table = dataset.with_format("arrow")[:]
    pq.write_table(table.replace_schema_metadata(dataset.features.arrow_schema.metadata), path)


def _read_parquet(path: Path) -> Dataset:
    """Reads a dataset into memory, without a copy in the cache of `datasets`: the folder may be moved afterwards."""
    return as_stored(Dataset(pq.read_table(path)))


def _replace_files(draft: Path, target: Path) -> None:
    """Moves the finished files over those in `target`; the file that names the others' checksums comes last."""
    (target / ROWS).parent.mkdir(exist_ok=True)
    for name in (NUMBERS, ROWS, TARGETS, FACTS):
        os.replace(draft / name, target / name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
