"""The loop that embedding into a store, into memory and from a stream share: it embeds, checks and saves shards.

The loop waits for no other process.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.free_memory import release_free_memory
from itl_hf.embedding.prefetch import prefetch
from itl_hf.text import Row

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.progress import Progress
    from itl_hf.processes import Processes


logger = logging.getLogger(__name__)
#: So many rows of a shard, none of them finite, are a damaged model rather than rows without information.
SEVERAL_ROWS = 4
_ADVICE = "A model in float16 overflows easily: use dtype='float32' or 'bfloat16'."


@dataclass(frozen=True)
class ShardTask:
    """The rows of a shard that is to be embedded.

    Args:
        shard (`int`):
            Number of the shard.
        row_numbers (`np.ndarray`):
            Shape (B,), ascending: the number of each of `rows` in its dataset.
        rows (`Sequence[Row]`):
            The B rows to embed.
        expansion (`np.ndarray`, *optional*):
            For each row of the shard, its position in `rows`, if `rows` holds equal rows only once. `None` if the rows
            of the shard are `rows`.
        rows_hash (`str`, *optional*):
            Hash of the shard's rows, for a stream.
    """

    shard: int
    row_numbers: np.ndarray
    rows: Sequence[Row]
    expansion: np.ndarray | None = None
    rows_hash: str = ""


@dataclass(frozen=True)
class EmbeddedShard:
    """The features (B, d) and columns (B,) of a shard as NumPy arrays, and the numbers of rows that are not finite."""

    features: np.ndarray
    columns: dict[str, np.ndarray]
    not_finite: Sequence[int] = ()


def embed_shards(
    tasks: Iterator[ShardTask],
    embedder: Embedder,
    dtype: str,
    save: Callable[[ShardTask, EmbeddedShard], None],
    progress: Progress,
    processes: Processes,
) -> None:
    """Embeds each shard and passes it to `save`.

    If the embedder can prepare rows without its model, a thread prepares the next shard meanwhile.

    Raises:
        `ValueError`: If a row cannot be embedded, or no row of a shard has finite features.
        `OtherProcessFailed`: If another process has failed.
    """
    items = _prepare_tasks(tasks, embedder)
    not_finite: list[int] = []
    with contextlib.closing(prefetch(items) if embedder.prepares_ahead else items) as prepared_tasks:
        for task, prepared_rows in prepared_tasks:
            processes.check_others()
            with contextlib.nullcontext() if embedder.prepares_ahead else _locate_bad_row(task, embedder.check):
                embedded = embedder.embed_prepared(prepared_rows, on_rows=progress.add_rows)
            shard = _check_shard(task, embedded, embedder, dtype)
            save(task, shard)
            not_finite += shard.not_finite
            release_free_memory()
            progress.finish_shard(shard.columns.get("tokens"))
    _report_not_finite(not_finite)


def _prepare_tasks(tasks: Iterator[ShardTask], embedder: Embedder) -> Generator[tuple[ShardTask, Any], None, None]:
    for task in tasks:
        with _locate_bad_row(task, embedder.prepare):
            prepared_rows = embedder.prepare(task.rows, int(task.row_numbers[0]))
        yield task, prepared_rows


@contextlib.contextmanager
def _locate_bad_row(task: ShardTask, check: Callable[[Sequence[Row], int], Any]) -> Iterator[None]:
    """Calls `check` for each row after a `ValueError`, so that the message names the row's number in the dataset.

    An embedder counts rows from the first one that it gets. Where equal rows were left out, its count is wrong.
    """
    try:
        yield
    except ValueError as error:
        if task.row_numbers[-1] - task.row_numbers[0] + 1 == len(task.row_numbers):
            raise
        for row, number in zip(task.rows, task.row_numbers.tolist(), strict=True):
            try:
                check([row], number)
            except ValueError as error_with_number:
                raise error_with_number from error
        raise


def _check_shard(task: ShardTask, embedded: Any, embedder: Embedder, dtype: str) -> EmbeddedShard:
    tensor, columns = (embedded.features, embedded.columns) if isinstance(embedded, Embedded) else (embedded, {})
    if tuple(tensor.shape) != (len(task.rows), embedder.dimension):
        raise ValueError(
            f"the embedder returned features of shape {tuple(tensor.shape)} for {len(task.rows)} rows of dimension "
            f"{embedder.dimension}."
        )
    exact = tensor.detach().cpu().float().numpy()  # (B, d)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers that do not fit are found below
        features = exact.astype(dtype, copy=False)
    not_finite = _rows_not_finite(exact, features, task.row_numbers)
    arrays = {name: column.detach().cpu().numpy() for name, column in columns.items()}
    if task.expansion is not None:
        features = features[task.expansion]
        arrays = {name: column[task.expansion] for name, column in arrays.items()}
    return EmbeddedShard(features, arrays, not_finite)


def _rows_not_finite(exact: np.ndarray, features: np.ndarray, row_numbers: np.ndarray) -> list[int]:
    """Returns the numbers of the rows with NaN or infinity, which are kept and never picked.

    Args:
        exact (`np.ndarray`):
            Shape (B, d): features as they were computed.
        features (`np.ndarray`):
            Shape (B, d): the same in the type that they are stored in.
        row_numbers (`np.ndarray`):
            Shape (B,): the number of each row in its dataset.

    Raises:
        `ValueError`: If numbers are too large for the type that they are stored in, or no row of several is finite.
    """
    bad = ~np.isfinite(features).all(axis=1)  # (B,)
    too_large = np.flatnonzero(bad & np.isfinite(exact).all(axis=1))
    if len(too_large):
        raise ValueError(
            f"row {int(row_numbers[too_large[0]])}: its features reach {np.abs(exact[too_large[0]]).max():.3g}, which "
            "float16 cannot store. Use dtype='float32' for the store."
        )
    if bad.all() and len(bad) >= SEVERAL_ROWS:
        raise ValueError(
            f"row {int(row_numbers[0])}: its features are not finite (NaN or infinity), nor are those of the "
            f"{len(bad) - 1} rows after it. {_ADVICE} If it happens there too, the model's weights are damaged."
        )
    numbers: list[int] = row_numbers[bad].tolist()
    return numbers


def _report_not_finite(numbers: Sequence[int]) -> None:
    if numbers:
        logger.warning(
            "The features of %d row(s) are not finite (NaN or infinity); such rows of a pool are never picked (the "
            "first is row %d). %s",
            len(numbers),
            min(numbers),
            _ADVICE,
        )
