"""Colours the map by a column: the most frequent values of a column of names, or a ramp over a column of numbers."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Value

from itl_hf.report.explorer.row_text import value_text
from itl_hf.report.text import visible
from itl_hf.selection.result.columns import COLUMNS
from itl_hf.text import TEXT_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection

#: Most values that get a colour of their own: more colours would look alike on the map.
MAX_COLORS = 10
#: Code of rows without a colour: rare values, missing values, and rows of which the column is not known.
NO_COLOR = 255
#: Numbers beyond these percentiles get the colours at the ends of the ramp.
PERCENTILES = (2, 98)
RAMP_STEPS = 254
#: Columns of the picks that are not columns of the pool.
PICK_COLUMNS = {
    "itl_gain": "gain",
    "itl_similarity": "similarity to the nearest target",
    "itl_nearest_target": "nearest target",
}


def colored_columns(data: ExplorerData) -> list[tuple[str, str]]:
    """Columns that the map can be coloured by: their label and name. Columns of texts that all differ are left out."""
    picks = data.selection.dataset
    hidden = {*COLUMNS, *TEXT_COLUMNS, *(() if data.text_rows is None else data.text_rows.format.columns)}
    names = [name for name in picks.column_names if name not in hidden and _has_colors(picks, name)]
    labels = [(visible(name), name) for name in names]
    return labels + [(label, name) for name, label in PICK_COLUMNS.items() if name in picks.column_names]


def coloring(data: ExplorerData, selection: Selection, column: str) -> dict[str, Any]:
    """Returns the colours of the picks and of the pool's points on the map.

    Returns:
        `dict`: `label` of the column; `names` of the colours with their numbers of picks (`None` for a ramp); `range`
        of the ramp (`None` for names); `others` (how many further values there are); `picks` (a code for each pick) and
        `pool` (base64 of a uint8 code for each point; `None` if the column is not known of them). A code is the number
        of a name, or from 0 to `RAMP_STEPS` along the ramp; `NO_COLOR` is the code of rows without a colour.
    """
    pick_values, pool_values = list(selection.dataset[column]), _pool_values(data, column)
    codes = (_ramp if _is_ramp(selection.dataset, column) else _names)(pick_values, pool_values or [])
    pick_codes, pool_codes = codes.pop("picks"), codes.pop("pool")
    return {
        "label": visible(PICK_COLUMNS.get(column, column)),
        **codes,
        "picks": pick_codes.tolist(),
        "pool": None if pool_values is None else base64.b64encode(pool_codes.tobytes()).decode(),
    }


def _ramp(pick_values: list[Any], pool_values: list[Any]) -> dict[str, Any]:
    low, high = _ends([*pick_values, *pool_values])
    return {
        "names": None,
        "range": [f"{low:.4g}", f"{high:.4g}"],
        "others": 0,
        "picks": _ramp_codes(pick_values, low, high),
        "pool": _ramp_codes(pool_values, low, high),
    }


def _names(pick_values: list[Any], pool_values: list[Any]) -> dict[str, Any]:
    pick_texts, pool_texts = _value_texts(pick_values), _value_texts(pool_values)
    names = _frequent_values(pick_texts, pool_texts)
    counts = Counter(pick_texts)
    all_names = {text for text in (*pick_texts, *pool_texts) if text is not None}
    return {
        "names": [[visible(name), counts[name]] for name in names],
        "range": None,
        "others": len(all_names) - len(names),
        "picks": _name_codes(pick_texts, names),
        "pool": _name_codes(pool_texts, names),
    }


def _value_texts(values: list[Any]) -> list[str | None]:
    """The texts of values, each distinct one of which is made once: a map has up to 200,000 rows."""
    texts = {value: None if value is None else value_text(value) for value in set(values)}
    return [texts[value] for value in values]


def _pool_values(data: ExplorerData, column: str) -> list[Any] | None:
    """Values of the column for the points of the pool on the map."""
    if data.pool is None or column not in data.pool.column_names:
        return None
    rows = data.pool.select_columns([column]).with_format(None).select(data.selection.layout.pool_rows)
    return list(rows[column][:])


def _has_colors(picks: Dataset, name: str) -> bool:
    feature = picks.features[name]
    if not isinstance(feature, Value):
        return False
    if _is_ramp(picks, name):
        return True
    values = [value for value in picks[name] if value is not None]
    num_values = len({value_text(value) for value in values})
    return feature.dtype in ("string", "large_string", "bool") and 0 < num_values <= max(MAX_COLORS, len(values) // 2)


def _is_ramp(picks: Dataset, name: str) -> bool:
    feature = picks.features[name]
    return isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "float"))


def _ends(values: Sequence[Any]) -> tuple[float, float]:
    numbers = np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return 0.0, 0.0
    low, high = np.percentile(numbers, PERCENTILES)
    return float(low), float(high)


def _ramp_codes(values: Sequence[Any], low: float, high: float) -> np.ndarray:
    numbers = np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    is_finite = np.isfinite(numbers)
    steps = np.clip((np.where(is_finite, numbers, low) - low) / ((high - low) or 1.0), 0, 1) * RAMP_STEPS
    return np.where(is_finite, np.rint(steps), NO_COLOR).astype(np.uint8)


def _frequent_values(pick_texts: Sequence[str | None], pool_texts: Sequence[str | None]) -> list[str]:
    """The values that get a colour: the most frequent ones of the picks, then of the pool."""
    pick_counts, pool_counts = (
        Counter(text for text in texts if text is not None) for texts in (pick_texts, pool_texts)
    )
    names = sorted(pick_counts | pool_counts, key=lambda name: (-pick_counts[name], -pool_counts[name], name))
    return names[:MAX_COLORS]


def _name_codes(texts: Sequence[str | None], names: list[str]) -> np.ndarray:
    codes: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    return np.asarray([codes.get(text, NO_COLOR) for text in texts], dtype=np.uint8)
