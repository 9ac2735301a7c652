"""`ExactJson`: a column type that returns exactly the values that it was given, whatever the other rows hold.

An Arrow struct has the same fields in every row: a key that only one row has becomes a null in all others. `datasets`
stores such values as JSON text instead, in columns of the type `Json`. Its parser rounds long floats and drops lone
surrogates, so that this package reads the same text with Python's parser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Json, LargeList, List


@dataclass(repr=False, eq=False)
class ExactJson(Json):  # type: ignore[misc]  # datasets has no types
    """`datasets.Json` with Python's JSON parser. It is saved as `Json`, and equals it.

    Example:
        >>> ExactJson().decode_example(ExactJson().encode_example({"a": 0.30000000000000004}))
        {'a': 0.30000000000000004}
        >>> ExactJson() == Json()
        True
    """

    def encode_example(self, example_data: Any) -> str | None:
        """Returns the value as JSON text; `None` stays `None`."""
        return None if example_data is None else json.dumps(example_data)

    def decode_example(self, example_data: str | None, token_per_repo_id: Any = None) -> Any:
        """Returns the value of the JSON text."""
        return None if example_data is None else json.loads(example_data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.decode == other.decode

    def __hash__(self) -> int:
        return hash((Json, self.decode))

    def __repr__(self) -> str:
        return "Json()"


def exact(feature: Any) -> Any:
    """Returns the type of a column with `ExactJson` in place of every `Json`, at any depth."""
    if type(feature) is Json and feature.decode:
        return ExactJson()
    if isinstance(feature, dict):
        return type(feature)({name: exact(part) for name, part in feature.items()})
    if isinstance(feature, list):
        return [exact(part) for part in feature]
    if isinstance(feature, List):
        return List(exact(feature.feature), length=feature.length, id=feature.id)
    if isinstance(feature, LargeList):
        return LargeList(exact(feature.feature), id=feature.id)
    return feature


def as_stored(dataset: Dataset) -> Dataset:
    """Returns the rows as they are stored, whatever format such as `torch` or hidden columns the dataset has.

    JSON is read with Python's parser.

    Raises:
        `ValueError`: If the dataset has a transform: the rows that it shows are computed each time they are read.
    """
    if dataset.format["type"] == "custom":
        raise ValueError(
            "the dataset has a transform (`set_transform` or `with_transform`), which may change the text each time a "
            "row is read. Apply it once with dataset.map(transform, batched=True), or take it off with "
            "dataset.with_format(None)."
        )
    is_plain = dataset.format["type"] is None and dataset.format["columns"] == dataset.column_names
    if is_plain and not _has_json(dict(dataset.features)):
        return dataset
    stored_rows = dataset.with_format(None)  # a copy, whose description can be changed
    stored_rows.info.features = Features(exact(dict(dataset.features)))
    return stored_rows


def _has_json(feature: Any) -> bool:
    if isinstance(feature, dict | list):
        return any(map(_has_json, feature.values() if isinstance(feature, dict) else feature))
    return _has_json(feature.feature) if isinstance(feature, List | LargeList) else type(feature) is Json
