"""Loads rows by name: a local file, a folder, or a dataset on the Hub."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DatasetGenerationError

from itl_hf.text.csv_header import check_header
from itl_hf.text.file_contents import contents_digest
from itl_hf.text.formats import text_column_names
from itl_hf.text.json_files import read_json_files
from itl_hf.text.unreadable_files import DAMAGES, check_file, is_damage, unreadable

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
DEFAULT_SPLIT = "train"
READERS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}


def is_file_name(name: str) -> bool:
    """Returns whether rows of this name come from files, which have no splits."""
    return bool(_files(name))


def load_rows(name: str, split: str = DEFAULT_SPLIT, config: str | None = None) -> Dataset:
    """Loads the rows of a file, a folder or a Hub dataset.

    Args:
        name (`str`):
            A file (.jsonl, .json, .csv, .tsv, .parquet, .txt with one text a line; also compressed, as .jsonl.gz or
            .jsonl.zst), several (`rows/*.jsonl`), an address (`hf://datasets/...`), a folder that `datasets` reads or
            wrote, or a Hub dataset.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a folder or Hub dataset.
        config (`str`, *optional*):
            Configuration (subset) of a Hub dataset.

    Raises:
        `ValueError`: If the kind of file is unknown, the file cannot be read, there is no such split, or a split or
            configuration is given for what has none.
        `FileNotFoundError`: If the name looks like a file and there is none.
    """
    if not name.strip() or "\0" in name:
        raise ValueError(f"{name!r} names no rows: give a file, a folder or a dataset on the Hub")
    files = _files(name)
    path = Path(name)
    is_saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
    if (files or is_saved) and config is not None:
        raise ValueError(f"{name} has no configurations (subsets): leave out {config!r}")
    if files:
        if split != DEFAULT_SPLIT:
            raise ValueError(f"{name} is a file and has no splits: leave out the split {split!r}")
        return _load_files(name, files)
    if is_saved:
        return _load_saved(name, split)
    options = {"cache_dir": _cache_folder(path.rglob("*"))} if path.is_dir() else {}
    try:
        return load_dataset(name, config, split=split, **options)
    except (DatasetGenerationError, pa.ArrowException, IndexError, KeyError) as error:
        raise ValueError(f"{name} cannot be read: {error.__cause__ or error}") from error
    except (OSError, ValueError) as error:
        if not path.exists() or (name in str(error) and not isinstance(error, EmptyDatasetError)):
            raise
        raise ValueError(f"{name} holds no rows that can be read ({error}): give a file, such as rows.jsonl") from error


def _files(name: str) -> list[str]:
    """Returns the files that a name stands for; none if it is a folder or a dataset on the Hub.

    Raises:
        `FileNotFoundError`: If the name looks like files and there are none.
    """
    if Path(name).is_file():
        return [name]
    if "://" in name or any(character in name for character in "*?["):
        file_system, pattern = fsspec.core.url_to_fs(name)
        prefix = name.split("://")[0] + "://" if "://" in name else ""
        paths = sorted(file_system.glob(pattern)) if any(character in name for character in "*?[") else [pattern]
        if not paths:
            raise FileNotFoundError(f"{name}: no such files")
        return [f"{prefix}{path}" if prefix else path for path in paths] if len(paths) > 1 or prefix == "" else [name]
    if _kind(name) in READERS and not Path(name).is_dir():
        raise FileNotFoundError(f"{name}: no such file")
    return []


def _kind(name: str) -> str:
    """Returns the suffix of a file without that of its compression, such as `.jsonl` of `rows.jsonl.gz`."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _load_files(name: str, files: list[str]) -> Dataset:
    kinds = sorted({_kind(file) for file in files})
    if len(kinds) > 1 or kinds[0] not in READERS:
        raise ValueError(f"{name}: files of this kind ({', '.join(kinds)}) are not read; known: {', '.join(READERS)}")
    reader = READERS[kinds[0]]
    if reader == "json":
        return read_json_files(files)
    for file in files:
        check_file(file)
        if reader == "csv":
            check_header(file, _separator(file))
    options: dict[str, Any] = {}
    if reader == "csv":  # an empty cell is missing; NA, null and None are texts
        options = {"keep_default_na": False, "na_values": [""], "sep": _separator(files[0])}
        options["converters"] = dict.fromkeys(text_column_names(), _cell)  # 007 and 2 are texts there
    if all("://" not in file for file in files):
        options["cache_dir"] = _cache_folder(map(Path, files))
        files = [_without_patterns(Path(file).absolute(), Path(options["cache_dir"])) for file in files]
    try:
        return _load_together(reader, files, options)
    except (DatasetGenerationError, StopIteration, pa.ArrowException, IndexError, KeyError, OSError, *DAMAGES) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise unreadable(name, kinds[0][1:], error) from error


def _separator(name: str) -> str:
    return "\t" if _kind(name) == ".tsv" else ","


def _load_together(reader: str, files: list[str], options: dict[str, Any]) -> Dataset:
    """Loads files as one dataset; a column may be empty in some of them, or whole numbers in some and floats in others.

    `datasets` takes the types of the first file for those of all.
    """
    try:
        return load_dataset(reader, data_files=files, split="train", **options)
    except DatasetGenerationError:
        if len(files) == 1:
            raise
        parts = [load_dataset(reader, data_files=[file], split="train", **options) for file in files]
    try:
        return concatenate_datasets(parts)
    except (ValueError, TypeError) as error:
        raise DatasetGenerationError(str(error)) from error


def _cell(text: str) -> str | None:
    """Returns the text of a cell as it is written; an empty one is missing."""
    return text or None


def _cache_folder(paths: Iterable[Path]) -> str:
    """Returns a cache folder for the contents of local files: `datasets` goes by the time of their last change."""
    files = sorted(path.absolute() for path in paths if path.is_file())
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "itl_hf_files" / contents_digest(files))


def _without_patterns(path: Path, folder: Path) -> str:
    """Returns a name of the file that `datasets` takes for no pattern and no address: a link in this folder."""
    if not set("*?[]{}:#") & set(str(path)[len(path.drive) :]):  # the colon of a drive does not matter
        return str(path)
    link = folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}{_kind(path.name)}"
    link = link.with_name(link.name + path.suffix) if path.suffix in COMPRESSIONS else link
    folder.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(path)
    except FileExistsError:
        pass
    except OSError:  # Windows lets only some users make links
        shutil.copyfile(path, link)
    return str(link)


def _load_saved(name: str, split: str) -> Dataset:
    """Loads a folder that `save_to_disk` wrote."""
    try:
        dataset = load_from_disk(name)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} is a damaged dataset ({error}): write it again with save_to_disk") from error
    if not isinstance(dataset, DatasetDict):
        if split != DEFAULT_SPLIT:
            raise ValueError(f"{name} has no splits: leave out the split {split!r}")
        return dataset
    if split not in dataset:
        raise ValueError(f"{name} has no split {split!r}; its splits are {list(dataset)}")
    return dataset[split]
