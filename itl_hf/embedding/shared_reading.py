"""The one reading of a dataset's text, shared by several processes: each reads its part of the rows.

Keys, token counts and the few things that are kept of rows are then exchanged: 32 bytes a row, 40 with token counts, in
place of its text. Every process gets the reading of all rows, as one process would make it.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from itl_hf import distributed
from itl_hf.gp.pool import share
from itl_hf.text.alike import AlikeRows
from itl_hf.text.bad_rows import BadRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from itl_hf.embedding.reading import RowReading
    from itl_hf.text import TextRows


def own_range(num_rows: int) -> range:
    """Returns the numbers of the rows that this process reads."""
    numbers = range(num_rows)
    return numbers[share(num_rows, distributed.rank(), distributed.world_size())]


def exchange(read_part: Callable[[], RowReading], rows: TextRows, alike: AlikeRows | None) -> RowReading:
    """Reads the rows of this process and returns the reading of all rows. Collective: all processes must call it.

    Args:
        read_part (`Callable[[], RowReading]`):
            Reads the rows of `own_range`, numbered as in the dataset.
        rows (`TextRows`):
            The rows; their count of keys that were left out becomes that of all processes.
        alike (`AlikeRows`, *optional*):
            What the tokenizers noted of this process's rows; it becomes that of all rows.

    Raises:
        `BaseException`: The error of a process that cannot read its rows, on all of them.
    """
    part: RowReading | None = None
    error: BaseException | None = None
    try:
        part = read_part()
    except Exception as failure:
        error = failure
    distributed.raise_on_all(error)
    assert part is not None
    others = _small_parts(part, rows.num_with_filled_keys)
    rows.num_with_filled_keys = sum(other["filled"] for other in others)
    if alike is not None:
        alike.exchange(_of_all)
    return dataclasses.replace(
        part,
        keys=dataclasses.replace(part.keys, keys=_of_all(part.keys.keys)),
        prompt_keys=_of_all(part.prompt_keys),
        sample={number: (prompt, answer) for other in others for number, prompt, answer in other["sample"]},
        num_tokens=None if part.num_tokens is None else _of_all(part.num_tokens),
        bad_rows=BadRows.join([other["bad_rows"] for other in others]),
    )


def _small_parts(part: RowReading, num_filled: int) -> list[dict[str, Any]]:
    """Exchanges what is no array, as one line of JSON of each process."""
    sample = [[number, *pair] for number, pair in part.sample.items()]
    line = json.dumps({"sample": sample, "bad_rows": part.bad_rows.entries(), "filled": num_filled}) + "\n"
    lines = distributed.gather_rows(torch.frombuffer(bytearray(line.encode()), dtype=torch.uint8))
    return [json.loads(text) for text in lines.numpy().tobytes().decode().splitlines()]


def _of_all(numbers: np.ndarray) -> np.ndarray:
    """Returns the rows of all processes, in the order of ranks; gloo has no unsigned numbers of 64 bits."""
    all_rows = distributed.gather_rows(torch.from_numpy(np.ascontiguousarray(numbers).view(np.int64)))
    return all_rows.numpy().view(numbers.dtype)
