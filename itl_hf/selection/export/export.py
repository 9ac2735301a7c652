"""`export_selection`: checks, converts and writes the picked rows, in the order picked."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.disk.checks import check_output_file, check_writable_folder, expand
from itl_hf.disk.file_modes import make_folder
from itl_hf.disk.lock import lock_folder
from itl_hf.disk.whole_files import write_whole_file
from itl_hf.selection.export import axolotl, llama_factory, torchtune, unsloth, verl
from itl_hf.selection.export.conversations import PickedRow, picked_rows
from itl_hf.selection.export.files import ExportFiles, TrainerFormat, json_bytes
from itl_hf.selection.export.plain_rows import jsonl_bytes, parquet_file, with_weights
from itl_hf.text.bad_rows import BadRows, check_on_bad_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.text import ColumnMapping

PLAIN_FORMATS = {"jsonl": jsonl_bytes, "parquet": parquet_file}
TRAINER_FORMATS: Mapping[str, TrainerFormat] = {
    "llama_factory": llama_factory.FORMAT,
    "axolotl": axolotl.FORMAT,
    "torchtune": torchtune.FORMAT,
    "unsloth": unsloth.FORMAT,
    "verl": verl.PROMPTS,
    "verl_sft": verl.CONVERSATIONS,
}
FORMATS = (*PLAIN_FORMATS, *TRAINER_FORMATS)
#: Seconds to wait for another process that writes into the same folder.
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Export:
    """What `Selection.export` wrote.

    Args:
        files (`tuple[Path, ...]`):
            The files, the rows first.
        num_rows (`int`):
            Rows that were written.
        skipped (`dict`):
            Rows that the trainer cannot hold and that were left out, by the reason; see `record.skipped`.
        usage (`str`):
            What to type to train on them.
    """

    files: tuple[Path, ...]
    num_rows: int
    skipped: dict[str, Any]
    usage: str


def check_format(name: str) -> str:
    """Returns the format, or raises a `ValueError` that lists the known ones."""
    if name == "csv":
        raise ValueError("format 'csv' is not offered: it has no lists, and no difference between empty and None")
    if name not in FORMATS:
        raise ValueError(f"format {name!r} is not known: choose one of {', '.join(FORMATS)}")
    return name


def export_selection(
    dataset: Dataset,
    columns: ColumnMapping | None,
    gains: np.ndarray,
    path: str | os.PathLike[str],
    format: str,
    *,
    name: str = "selection",
    weights: str | Sequence[float] | None = None,
    on_bad_rows: str = "error",
    overwrite: bool = False,
) -> Export:
    """Writes the picked rows; the arguments are those of `Selection.export`.

    Args:
        dataset (`Dataset`):
            The picked rows with the columns of a selection.
        columns (`ColumnMapping`, *optional*):
            Which column holds which part of a row.
        gains (`np.ndarray`):
            (n,) float64, gain of each pick.
        path (`str` or `PathLike`):
            See `Selection.export`, as for all others.
        format (`str`):
            One of `FORMATS`.
        name (`str`, *optional*, defaults to `"selection"`):
            Name of the files in a folder.
        weights (`"gains"` or `Sequence[float]`, *optional*):
            (n,) weights of the rows.
        on_bad_rows (`"error"` or `"skip"`, *optional*, defaults to `"error"`):
            What to do about rows that the trainer cannot hold.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace files of the same names.

    Returns:
        `Export`: What was written.

    Raises:
        `FileExistsError`, `ValueError`: See `Selection.export`.
    """
    check_format(format)
    check_on_bad_rows(on_bad_rows)
    numbers = _weights(weights, gains)
    target = expand(path)
    if format in PLAIN_FORMATS:
        check_output_file(target, "path")
        _check_free([target], overwrite)
        write_whole_file(target, PLAIN_FORMATS[format](with_weights(dataset, numbers)))
        return Export((target,), len(dataset), BadRows().to_json(), f"load_dataset({_reader(format)!r}, ...)")
    _check_name(name)
    trainer = TRAINER_FORMATS[format]
    if numbers is not None and not trainer.takes_weights:
        raise ValueError(f"{format} takes no weights of rows: leave out weights, or export as jsonl, parquet or verl")
    check_writable_folder(target, "path")
    picks, rows, bad_rows = _convert(dataset, columns, numbers, trainer, format)
    if len(bad_rows) and on_bad_rows == "error":
        raise ValueError(f"{format}: {bad_rows.message(len(dataset))} Leave them out with on_bad_rows='skip'.")
    if not rows:
        raise ValueError(f"{format}: {bad_rows.message(len(dataset))} No row is left to be written.")
    files = trainer.write(rows, picks, Path(path), name)
    paths = _write(target, name, files, overwrite)
    if len(bad_rows):
        warnings.warn(f"{format}: {bad_rows.message(len(dataset))} They were left out.", stacklevel=3)
    return Export(paths, len(rows), bad_rows.to_json(), files.usage)


def _convert(
    dataset: Dataset, columns: ColumnMapping | None, weights: list[float] | None, trainer: TrainerFormat, format: str
) -> tuple[list[PickedRow], list[dict[str, Any]], BadRows]:
    picks: list[PickedRow] = []
    rows: list[dict[str, Any]] = []
    bad_rows = BadRows()
    for number, pick in enumerate(picked_rows(dataset, columns, weights)):
        try:
            if isinstance(pick, ValueError):
                raise pick
            if pick.kind not in trainer.kinds:
                raise ValueError(f"it is a text without a prompt, which {format} does not train on")
            row = trainer.convert(pick)
            json_bytes(row)
        except (ValueError, TypeError) as error:
            bad_rows.add(number, error)
            continue
        picks.append(pick)
        rows.append(row)
    return picks, rows, bad_rows


def _weights(weights: str | Sequence[float] | None, gains: np.ndarray) -> list[float] | None:
    """Returns one weight for each pick."""
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "gains":
            raise ValueError(f"weights must be 'gains' or {len(gains)} numbers, got {weights!r}")
        if not np.mean(gains) > 0:
            raise ValueError("weights='gains' needs picks with a gain: all of them are 0")
        weights = (gains / np.mean(gains)).tolist()  # their mean is 1
    numbers = np.asarray(weights, dtype=np.float64)
    if numbers.shape != (len(gains),):
        raise ValueError(f"weights must be {len(gains)} numbers, one for each pick, got shape {numbers.shape}")
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ValueError("weights must be finite and not negative")
    return [float(number) for number in numbers]


def _write(folder: Path, name: str, files: ExportFiles, overwrite: bool) -> tuple[Path, ...]:
    """Writes the files, the one that refers to the others last. Each of them appears whole."""
    make_folder(folder)
    with lock_folder(folder, "another process is exporting into this folder", _WAIT_SECONDS):
        paths = [folder / file for file in files.contents]
        info_path = folder / llama_factory.INFO_FILE
        info = None if files.entry is None else _merged_info(info_path, name, files.entry, overwrite)
        _check_free(paths, overwrite)
        for path, content in zip(paths, files.contents.values(), strict=True):
            write_whole_file(path, content)
        if info is not None:
            write_whole_file(info_path, info)
            paths.append(info_path)
    return tuple(paths)


def _merged_info(path: Path, name: str, entry: Mapping[str, Any], overwrite: bool) -> bytes:
    """Returns the content of `dataset_info.json` with one more entry; the others stay as they are."""
    try:
        info = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): mend it, or export into another folder") from error
    if not isinstance(info, dict):
        raise ValueError(f"{path} holds no object with data sets: mend it, or export into another folder")
    if name in info and not overwrite:
        raise FileExistsError(f"{path} has a data set {name!r} already: choose another name, or pass overwrite=True")
    return json_bytes({**info, name: entry}, 2) + b"\n"


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, where a file is to be written: choose another name")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already: choose another name, or pass overwrite=True (--overwrite)")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"name {name!r} must be of letters, digits, '_', '-' and '.', since files are named by it")


def _reader(format: str) -> str:
    return {"jsonl": "json"}.get(format, format)
