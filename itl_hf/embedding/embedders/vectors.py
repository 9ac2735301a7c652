"""Features that were computed elsewhere and come with the rows: a column of vectors, or an array."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from itl_hf.embedding.embedders.base import Embedder, Fingerprint
from itl_hf.text import ColumnMapping, Row, TextRows, as_dataset, plain_text
from itl_hf.text.content import tools_text

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

_BATCH_ROWS = 1024
#: Vectors of one text that differ by less come from rounding.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


class VectorEmbedder(Embedder):
    """Features of rows whose vectors were computed elsewhere.

    `Selector` then does all that it does for other features: constraints, saving, reports, diagnosis, the explorer.
    Pool and targets have an embedder each, since each brings its vectors.

    Args:
        rows (`Dataset` or `list[dict]`):
            The rows as they are passed to `Selector.select`.
        vectors (`str`, `np.ndarray` or `Sequence[Sequence[float]]`):
            Name of the column that holds them, or (N, d) numbers in the order of the rows.
        columns (`dict[str, str]`, *optional*):
            As for `Selector`.
        prompt_template (`str`, *optional*):
            As for `Selector`.
        name (`"pool"` or `"targets"`, *optional*, defaults to `"pool"`):
            What the rows are. Targets may lack the columns of answers that `columns` names.

    Raises:
        `ValueError`: If there is no such column, the vectors are not (N, d) numbers, or rows of the same text have
            different vectors.

    Example:
        >>> from itl_hf import Selector
        >>> pool = [{"text": "a", "vector": [1.0, 0.0]}, {"text": "b", "vector": [0.0, 1.0]}]
        >>> embedders = VectorEmbedder(pool, "vector"), VectorEmbedder(["c"], [[0.2, 0.9]], name="targets")
        >>> Selector(embedders[0], "cosine", targets_embedder=embedders[1]).select(pool, ["c"], 1).indices.tolist()
        [1]
    """

    # They are kept already, where they came from.
    default_cache = False

    def __init__(
        self,
        rows: Any,
        vectors: str | np.ndarray | Sequence[Sequence[float]],
        *,
        columns: Mapping[str, str] | Sequence[str] | str | None = None,
        prompt_template: str | None = None,
        name: str = "pool",
    ) -> None:
        dataset = as_dataset(rows, name)
        self.features = _read_vectors(dataset, vectors, name)  # (N, d)
        text_rows = TextRows(dataset, ColumnMapping.of(columns, prompt_template), name)
        self.name = name
        self._numbers = self._index(text_rows)

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self.features.shape[1])

    def fingerprint(self) -> Fingerprint:
        """Returns the dimension and a hash of texts and vectors."""
        digest = hashlib.sha256(b"".join(self._numbers))
        digest.update(np.ascontiguousarray(self.features).data)
        return {"embedder": "vectors", "dimension": self.dimension, "hash": digest.hexdigest()[:32]}

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows without text, and for rows that have no vector."""
        for number, row in enumerate(rows, first_row):
            self._number(row, number)

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Returns the vectors of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with the number of rows.

        Returns:
            `Tensor`: Shape (len(rows), dimension), float32.

        Raises:
            `ValueError`: If a row has no text, or is none of those whose vectors are known.
        """
        numbers = [self._number(row, number) for number, row in enumerate(rows, first_row)]
        if on_rows is not None:
            on_rows(len(rows))
        return torch.from_numpy(self.features[numbers])  # a copy

    def _index(self, rows: TextRows) -> dict[bytes, int]:
        """Returns the first row of each text."""
        numbers: dict[bytes, int] = {}
        for number, row in enumerate(rows):
            try:
                first = numbers.setdefault(_text_key(row), number)
            except ValueError:  # a row without text, which the selection reports
                continue
            one, other = self.features[first], self.features[number]
            if first != number and not np.allclose(one, other, _RELATIVE, _ABSOLUTE, equal_nan=True):
                raise ValueError(
                    f"{self.name}: rows {first} and {number} have the same text and different vectors: remove one of "
                    "them, or give both the same vector"
                )
        return numbers

    def _number(self, row: Row, number: int) -> int:
        try:
            return self._numbers[_text_key(row)]
        except KeyError:
            raise ValueError(
                f"row {number} is none of the rows that VectorEmbedder was made of: pass the same {self.name} and the "
                "same columns to both"
            ) from None
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error


def _text_key(row: Row) -> bytes:
    """Returns a hash of a row's text, whatever format the row has."""
    prompt, completion = plain_text(row)
    parts = (prompt, completion, tools_text(row))
    return hashlib.sha256("\0".join(f"{len(part)} {part}" for part in parts).encode("utf-8", "surrogatepass")).digest()


def _read_vectors(dataset: Dataset, vectors: Any, name: str) -> np.ndarray:
    """Returns the vectors as (N, d) float32."""
    if not isinstance(vectors, str):
        return _as_array(vectors, len(dataset), f"the vectors of the {name}")
    if vectors not in dataset.column_names:
        raise ValueError(f"{name}: there is no column {vectors!r} of vectors; the columns are {dataset.column_names}")
    plain = dataset.with_format(None)
    blocks: list[np.ndarray] = []
    for start in range(0, len(plain), _BATCH_ROWS):
        values = plain[start : start + _BATCH_ROWS][vectors]
        where = f"{name}: column {vectors!r}, rows {start} to {start + len(values) - 1}"
        blocks.append(_as_array(values, len(values), where))
    widths = sorted({block.shape[1] for block in blocks})
    if len(widths) > 1:
        raise ValueError(f"{name}: column {vectors!r} holds vectors of {widths[0]} and of {widths[1]} numbers")
    return np.concatenate(blocks)


def _as_array(vectors: Any, num_rows: int, where: str) -> np.ndarray:
    try:
        array = np.array(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: every row must have a list of as many numbers ({error})") from None
    if array.ndim != 2 or len(array) != num_rows or not array.shape[1]:
        raise ValueError(f"{where}: expected {num_rows} rows of at least one number, got shape {array.shape}")
    return array
