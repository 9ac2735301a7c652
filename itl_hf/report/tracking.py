"""Logs a selection to experiment trackers: its record as configuration, the curve over the picks, a table of the picks.

The trackers are those of accelerate (TensorBoard, Weights & Biases, Trackio, MLflow and others), so they are installed
and configured as for training. Text of the rows is logged when it is asked for only, since most trackers are servers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.gains import gain_name
from itl_hf.text import plain_text

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

#: Where trackers that write files put them.
LOGGING_DIR = "runs"
#: Fields of the record that hold names of files, or more than a line.
_LEFT_OUT = ("arguments", "screening", "shift", "pool_source", "unusable")
_TEXT_LENGTH = 200


def check_trackers(names: str | Sequence[str]) -> list[str]:
    """Returns the names of trackers, of a list or separated by commas; `"all"` is every one that is installed.

    Args:
        names (`str` or `Sequence[str]`):
            Such as `"tensorboard,wandb"`.

    Raises:
        `ValueError`: If accelerate has no such tracker, or its package is not installed.

    Example:
        >>> check_trackers("none")
        []
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    parts = names.split(",") if isinstance(names, str) else names
    wanted_names = [name.strip() for name in parts if name.strip() not in ("", "none")]
    available_names = [str(getattr(one, "value", one)) for one in get_available_trackers()]
    if "all" in wanted_names:
        return available_names
    for name in wanted_names:
        if name not in LOGGER_TYPE_TO_CLASS:
            all_names = ", ".join(sorted(map(str, LOGGER_TYPE_TO_CLASS)))
            raise ValueError(f"report_to: accelerate has no tracker {name!r}; it has {all_names}")
        if name not in available_names:
            raise ValueError(f"report_to: {name} is not installed: pip install {name.replace('comet_ml', 'comet-ml')}")
    return list(dict.fromkeys(wanted_names))


def log_selection(
    selection: Selection,
    report_to: str | Sequence[str],
    *,
    run_name: str = "itl-hf-selection",
    logging_dir: str | os.PathLike[str] = LOGGING_DIR,
    max_rows: int = 100,
    include_text: bool = False,
    tracker_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Logs the record, the curve and a table of the picks of a selection.

    Args:
        selection ([`Selection`]):
            The selection.
        report_to (`str` or `Sequence[str]`):
            Names of accelerate's trackers, such as `"tensorboard"`, `"wandb"`, `"trackio"` and `"mlflow"`; `"all"` for
            every one that is installed.
        run_name (`str`, *optional*, defaults to `"itl-hf-selection"`):
            Name of the run, or of the project where the tracker has projects.
        logging_dir (`str` or `PathLike`, *optional*, defaults to `"runs"`):
            Folder of trackers that write files.
        max_rows (`int`, *optional*, defaults to 100):
            Picks in the table.
        include_text (`bool`, *optional*, defaults to `False`):
            Whether the table has the first 200 characters of each prompt.
        tracker_options (`dict[str, dict]`, *optional*):
            Further arguments of the trackers by their names, such as `{"wandb": {"entity": "me"}}`.

    Raises:
        `ValueError`: If a tracker is unknown or not installed.

    Example:
        >>> from itl_hf import log_selection
        >>> log_selection(selection, report_to="none")
    """
    names = check_trackers(report_to)
    for name in names:
        tracker = _start(name, run_name, Path(logging_dir), dict((tracker_options or {}).get(name, {})))
        tracker.store_init_configuration(configuration(selection))
        for step, values in enumerate(curve(selection)):
            tracker.log(values, step=step)
        columns, rows = table(selection, max_rows, include_text)
        _log_table(tracker, "itl/picks", columns, rows)
        tracker.finish()


def configuration(selection: Selection) -> dict[str, Any]:
    """Returns the record as flat names with numbers, texts and truth values."""
    entries = {name: value for name, value in selection.record.to_json().items() if name not in _LEFT_OUT}
    sizes = {"picks": len(selection), "pool": selection.pool_size, "targets": len(selection.targets)}
    return {**dict(_flat("itl", entries)), **{f"itl/{name}": size for name, size in sizes.items()}}


def _flat(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}/{key}", part)
    elif isinstance(value, bool | int | float | str):
        yield name, value
    elif isinstance(value, list):
        yield f"{name}/count", len(value)


def curve(selection: Selection) -> list[dict[str, float]]:
    """Returns, after 0 to n picks, the mean variance of the targets, the gain of the last pick, and their sum."""
    weights = selection.record.weights_of_targets
    variance = np.average(selection.target_variance, axis=1, weights=weights)  # (n + 1,)
    gains = np.concatenate([[math.nan], selection.gains])  # (n + 1,)
    totals = np.concatenate([[0.0], np.cumsum(selection.gains)])  # (n + 1,)
    steps = zip(variance, gains, totals, strict=True)
    values = [{"itl/target_variance": float(left), "itl/gain": float(gain), "itl/total": float(total)}
              for left, gain, total in steps]  # fmt: skip
    return [{name: value for name, value in step.items() if not math.isnan(value)} for step in values]


def table(selection: Selection, max_rows: int, include_text: bool) -> tuple[list[str], list[list[Any]]]:
    """Returns the names of the columns and the first picks."""
    picks = selection.dataset.select(range(min(max_rows, len(selection))))
    columns = ["pick", "row of the pool", gain_name(selection.record), "nearest target", "similarity"]
    names = ("itl_rank", "pool_index", "itl_gain", "itl_nearest_target", "itl_similarity")
    rows = [list(values) for values in zip(*(picks[name][:] for name in names), strict=True)]
    if include_text:
        columns.append("prompt")
        rows = [[*row, plain_text(pick)[0][:_TEXT_LENGTH]] for row, pick in zip(rows, picks, strict=True)]
    return columns, rows


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    r"""Returns a table in Markdown; text is shown as it is.

    Example:
        >>> print(markdown_table(["a"], [["<b>|\n"]]))
        | a |
        |---|
        | &lt;b&gt;&#124;  |
    """
    lines = [_line(columns), "|" + "---|" * len(columns), *(_line(row) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # Every character that begins markup, as an entity of HTML.
    entities = {character: f"&#{ord(character)};" for character in "|`*_[]\\!#~"}
    special = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " ", **entities}
    return "".join(special.get(character, character) for character in text)


def _start(name: str, run_name: str, logging_dir: Path, options: dict[str, Any]) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # what accelerate's trackers ask which process is the first
    tracker_class = LOGGER_TYPE_TO_CLASS[name]
    arguments = [str(logging_dir)] if tracker_class.requires_logging_directory else []
    tracker = tracker_class(run_name, *arguments, **options)
    if hasattr(tracker, "start"):  # older versions of accelerate start in the constructor
        tracker.start()
    return tracker


def _log_table(tracker: Any, name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Logs a table as the tracker can: as a table, as a file, or as text."""
    if hasattr(tracker, "log_table"):
        tracker.log_table(name, columns=columns, data=rows)
    elif tracker.name == "mlflow":
        import mlflow

        mlflow.log_text(markdown_table(columns, rows), f"{name}.md")
    else:
        tracker.log({name: markdown_table(columns, rows)})
