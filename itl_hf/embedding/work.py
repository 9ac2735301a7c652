"""The loop that every way of embedding shares: shard after shard through the embedder, checked, and handed over.

Nothing in it waits for another process.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.free_memory import give_back
from itl_hf.embedding.prefetch import ahead
from itl_hf.text import Row

if TYPE_CHECKING:
    from itl_hf.distributed import Processes
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.progress import Progress


@dataclass(frozen=True)
class Task:
    """A shard to be made.

    Args:
        shard (`int`):
            Its number.
        numbers (`np.ndarray`):
            Row of the dataset that each of `rows` is, ascending.
        rows (`Sequence[Row]`):
            What to embed.
        places (`np.ndarray`, *optional*):
            For each row of the shard, which of `rows` it is; `None` where they are the same.
        rows_hash (`str`):
            For a stream: hash of the shard's rows.
    """

    shard: int
    numbers: np.ndarray
    rows: Sequence[Row]
    places: np.ndarray | None = None
    rows_hash: str = ""


@dataclass(frozen=True)
class Made:
    """A shard's features (B, d) and columns (B,), in NumPy."""

    features: np.ndarray
    columns: dict[str, np.ndarray]


def run(
    tasks: Iterator[Task],
    embedder: Embedder,
    dtype: str,
    save: Callable[[Task, Made], None],
    progress: Progress,
    processes: Processes,
) -> None:
    """Make each shard and `save` it.

    Where the embedder can prepare rows without its model, a thread does so for the next shard.

    Raises:
        `ValueError`: A row that cannot be embedded, or whose features are not finite.
        `OtherProcessFailed`: Another process has failed.
    """
    with contextlib.closing(_prepared(tasks, embedder)) as prepared:
        for task, embed in prepared:
            processes.check()
            made = _made(task, embed(progress.rows), embedder, dtype)
            save(task, made)
            give_back()
            progress.shard(made.columns.get("tokens"))


_Embed = Callable[[Callable[[int], None]], Any]


def _prepared(tasks: Iterator[Task], embedder: Embedder) -> Any:
    """(task, what runs the model on it), a generator."""
    if not embedder.prepares_ahead:
        return ((task, _whole(task, embedder)) for task in tasks)

    def items() -> Iterator[tuple[Task, _Embed]]:
        for task in tasks:
            with _located(task, embedder):
                ready = embedder.prepare(task.rows, int(task.numbers[0]))
            yield task, functools.partial(_run_prepared, embedder.embed_prepared, ready)

    return ahead(items())


def _run_prepared(embed_prepared: Callable[..., Any], ready: Any, on_rows: Callable[[int], None]) -> Any:
    return embed_prepared(ready, on_rows=on_rows)


def _whole(task: Task, embedder: Embedder) -> _Embed:
    def embed(on_rows: Callable[[int], None]) -> Any:
        with _located(task, embedder):
            return embedder.embed(task.rows, first_row=int(task.numbers[0]), on_rows=on_rows)

    return embed


@contextlib.contextmanager
def _located(task: Task, embedder: Embedder) -> Iterator[None]:
    """An embedder counts rows from the first: where duplicates were left out, it is asked again, row by row."""
    try:
        yield
    except ValueError as error:
        if task.numbers[-1] - task.numbers[0] + 1 == len(task.numbers):
            raise
        check = embedder.prepare if embedder.prepares_ahead else embedder.check
        for row, number in zip(task.rows, task.numbers.tolist(), strict=True):
            try:
                check([row], number)
            except ValueError as located:
                raise located from error
        raise


def _made(task: Task, embedded: Any, embedder: Embedder, dtype: str) -> Made:
    tensor, columns = (embedded.features, embedded.columns) if isinstance(embedded, Embedded) else (embedded, {})
    if tuple(tensor.shape) != (len(task.rows), embedder.dimension):
        raise ValueError(
            f"the embedder returned features of shape {tuple(tensor.shape)} for {len(task.rows)} rows of dimension "
            f"{embedder.dimension}."
        )
    exact = tensor.detach().cpu().float().numpy()  # (B, d)
    with np.errstate(over="ignore"):  # said below, with the row's number
        features = exact.astype(dtype, copy=False)
    _require_finite(exact, features, task)
    arrays = {name: column.detach().cpu().numpy() for name, column in columns.items()}
    if task.places is not None:
        features, arrays = features[task.places], {name: column[task.places] for name, column in arrays.items()}
    return Made(features, arrays)


def _require_finite(exact: np.ndarray, features: np.ndarray, task: Task) -> None:
    finite = np.isfinite(features).all(axis=1)
    if finite.all():
        return
    bad = int(np.flatnonzero(~finite)[0])
    number = int(task.numbers[bad])
    if np.isfinite(exact[bad]).all():
        raise ValueError(
            f"row {number}: its features reach {np.abs(exact[bad]).max():.3g}, which float16 cannot store. Use "
            "dtype='float32' for the store."
        )
    raise ValueError(
        f"row {number}: its features are not finite (NaN or infinity). A model in float16 overflows easily: use "
        "dtype='float32' or 'bfloat16'. If it happens there too, the model's weights are damaged."
    )
