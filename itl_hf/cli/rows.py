"""Rows by name: a local file, a folder, or a dataset on the Hub."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, load_dataset, load_from_disk

READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


def load_rows(name: str, split: str = "train", config: str | None = None) -> Dataset:
    """The rows that `name` stands for.

    Args:
        name (`str`): a file (.jsonl, .json, .csv, .tsv, .parquet, .txt with one text a line), a folder that
            `datasets` reads or wrote, or a Hub dataset.
        split (`str`, *optional*, defaults to `"train"`): split of a folder or Hub dataset.
        config (`str`, *optional*): configuration (subset) of a Hub dataset.

    Raises:
        `ValueError`: a file of a kind that is not known.
        `FileNotFoundError`: something that looks like a file and is not there.
    """
    path = Path(name)
    if path.is_file():
        if path.suffix not in READERS:
            raise ValueError(f"{name}: files of this kind are not read; known: {', '.join(READERS)}")
        options = {"sep": "\t"} if path.suffix == ".tsv" else {}
        return load_dataset(READERS[path.suffix], data_files=str(path), split="train", **options)
    if path.suffix in READERS:
        raise FileNotFoundError(f"{name}: no such file")
    if (path / "state.json").is_file():
        return load_from_disk(name)
    return load_dataset(name, config, split=split)
