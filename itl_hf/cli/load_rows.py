"""Loads rows by name: a local file, a folder, or a dataset on the Hub."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError

READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


def load_rows(name: str, split: str = "train", config: str | None = None) -> Dataset:
    """Loads the rows of a file, a folder or a Hub dataset.

    Args:
        name (`str`):
            A file (.jsonl, .json, .csv, .tsv, .parquet, .txt with one text a line), a folder that `datasets` reads or
            wrote, or a Hub dataset.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a folder or Hub dataset.
        config (`str`, *optional*):
            Configuration (subset) of a Hub dataset.

    Raises:
        `ValueError`: If the kind of file is unknown, the file cannot be read, or there is no such split.
        `FileNotFoundError`: If the name looks like a file and there is none.
    """
    path = Path(name)
    if path.is_file():
        if path.suffix not in READERS:
            raise ValueError(f"{name}: files of this kind are not read; known: {', '.join(READERS)}")
        options = {"sep": "\t"} if path.suffix == ".tsv" else {}
        try:
            return load_dataset(READERS[path.suffix], data_files=str(path), split="train", **options)
        except DatasetGenerationError as error:
            raise ValueError(f"{name} cannot be read as {path.suffix[1:]}: {error.__cause__ or error}") from error
    if path.suffix in READERS:
        raise FileNotFoundError(f"{name}: no such file")
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _load_saved(name, split)
    try:
        return load_dataset(name, config, split=split)
    except DatasetGenerationError as error:
        raise ValueError(f"{name} cannot be read: {error.__cause__ or error}") from error


def _load_saved(name: str, split: str) -> Dataset:
    """Loads a folder that `save_to_disk` wrote."""
    dataset = load_from_disk(name)
    if not isinstance(dataset, DatasetDict):
        return dataset
    if split not in dataset:
        raise ValueError(f"{name} has no split {split!r}; its splits are {list(dataset)}")
    return dataset[split]
