"""Column types that hold the values of rows without loss, and the conversion of rows to columns of these types.

A column is an Arrow column where all of its values have the same structure: the same type and, for dictionaries, the
same keys in the same order (templates print them in it), none of them at `None`. Otherwise its irregular part is stored
as JSON text (`ExactJson`). A row then never gets keys from other rows, and a `None` within a dictionary of a row is one
that this row holds.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, List, Value

from itl_hf.text.json_feature import ExactJson

#: Most whole numbers that a float represents without a gap.
_EXACT_FLOAT = 1 << 53


class Structure:
    """What the values of a column have in common; values are added one at a time.

    Example:
        >>> structure = Structure()
        >>> structure.add([{"a": 1}]); structure.add([{"b": None}])
        >>> structure.feature()
        List(Json())
    """

    __slots__ = ("children", "has_none", "is_irregular", "item", "kinds", "max_int", "min_int")

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.has_none = self.is_irregular = False
        self.children: dict[str, Structure] | None = None
        self.item: Structure | None = None
        self.min_int = self.max_int = 0

    def add(self, value: Any) -> None:
        """Takes a further value into account."""
        if value is None:
            self.has_none = True
        elif isinstance(value, str):
            self.kinds.add("str" if is_unicode(value) else "surrogates")
        elif isinstance(value, bool):
            self.kinds.add("bool")
        elif isinstance(value, int):
            self.kinds.add("int")
            self.min_int, self.max_int = min(self.min_int, value), max(self.max_int, value)
        elif isinstance(value, float):
            self.kinds.add("float")
        elif isinstance(value, dict):
            self._add_dict(value)
        elif isinstance(value, list | tuple):
            self.kinds.add("list")
            self.item = self.item or Structure()
            for one in value:
                self.item.add(one)
        else:
            self.kinds.add("other")

    def _add_dict(self, value: dict[Any, Any]) -> None:
        self.kinds.add("dict")
        if self.children is None:
            self.children = {key: Structure() for key in value}
        if not value or len(value) != len(self.children) or any(map(operator.ne, value, self.children)):
            self.is_irregular = True
        for key, part in value.items():
            if not isinstance(key, str):
                self.kinds.add("other")
                return
            self.children.setdefault(key, Structure()).add(part)

    @property
    def has_other_types(self) -> bool:
        """Whether a value, at any depth, is of a type that JSON does not have, such as an image."""
        parts = [*(self.children or {}).values(), *([self.item] if self.item else [])]
        return "other" in self.kinds or any(part.has_other_types for part in parts)

    def feature(self, is_column: bool = True) -> Any:
        """Returns the type that holds all values without loss, as a feature of `datasets`.

        Args:
            is_column (`bool`, *optional*, defaults to `True`):
                Whether the values are those of a column, not parts of them. Whole numbers and floats then share a
                column of floats; within a value `1` and `1.0` are different texts.
        """
        fits_int64 = self.min_int >= -(1 << 63) and self.max_int < 1 << 63
        match sorted(self.kinds):
            case []:
                return Value("null")
            case ["str"]:
                return Value("string")
            case ["bool"]:
                return Value("bool")
            case ["int"] if fits_int64:
                return Value("int64")
            case ["float"]:
                return Value("float64")
            case ["float", "int"] if is_column and max(-self.min_int, self.max_int) <= _EXACT_FLOAT:
                return Value("float64")
            case ["list"]:
                return List((self.item or Structure()).feature(is_column=False))
            case ["dict"] if not self.is_irregular and self.children:
                if not any(part.has_none for part in self.children.values()):
                    return {key: part.feature(is_column=False) for key, part in self.children.items()}
        return ExactJson()


def dataset_of_rows(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Returns rows as a dataset whose rows equal them; keys that a row does not have are `None` columns of it.

    Args:
        rows (`Sequence[Mapping]`):
            The rows.

    Raises:
        `ValueError`: If a column holds values of types that do not fit together and that JSON does not have. (Errors of
            pyarrow are raised as they are: they derive from `ValueError`, `TypeError` and `OverflowError`.)

    Example:
        >>> dataset_of_rows([{"tools": [{"a": 1}]}, {"tools": [{"b": 2}]}])[1]
        {'tools': [{'b': 2}]}
    """
    # `Dataset.from_list` would take the columns of the first row only and drop those of others.
    columns = list(dict.fromkeys(key for row in rows for key in row))
    features, arrays = {}, {}
    for column in columns:
        values = [row.get(column) for row in rows]
        structure = Structure()
        for value in values:
            structure.add(value)
        if structure.has_other_types:
            features[column], arrays[column] = _column_of_datasets(column, values)
        else:
            features[column] = structure.feature()
            arrays[column] = to_arrow(values, features[column])
    return Dataset(pa.table(arrays), info=DatasetInfo(features=Features(features)))


def _column_of_datasets(name: str, values: Sequence[Any]) -> tuple[Any, pa.ChunkedArray]:
    """Returns values that JSON does not have, such as images, as `datasets` stores them."""
    try:
        part = Dataset.from_dict({name: values})
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors derive from these
        types = [(row, type(value)) for row, value in enumerate(values) if value is not None]
        row = next((row for row, type_ in types if type_ is not types[0][1]), None)
        where = f"column {name!r}" if row is None else f"column {name!r}, row {row}"
        raise ValueError(f"{where}: {error}") from error
    return part.features[name], part.data.table[name]


def to_arrow(values: Sequence[Any], feature: Any) -> pa.Array:
    """Returns values as an Arrow array of a type that `Structure.feature` returned."""
    if isinstance(feature, ExactJson):
        return pa.ExtensionArray.from_storage(pa.json_(), pa.array(map(feature.encode_example, values), pa.string()))
    is_null = [value is None for value in values]
    if isinstance(feature, dict):
        parts = [
            to_arrow([None if value is None else value[key] for value in values], part) for key, part in feature.items()
        ]
        return pa.StructArray.from_arrays(parts, names=list(feature), mask=pa.array(is_null))
    if isinstance(feature, List):
        items = to_arrow([item for value in values if value is not None for item in value], feature.feature)
        offsets = [0]
        for value in values:
            offsets.append(offsets[-1] + (0 if value is None else len(value)))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, mask=pa.array(is_null, pa.bool_()))
    return pa.array(values, datasets.Features({"value": feature}).arrow_schema.field("value").type)


def is_unicode(text: str) -> bool:
    """Returns whether the text can be encoded: it holds no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
