"""The one pass over a dataset's text before a selection: everything that needs the text of all rows is computed here.

Hashing, token counts, the search for copies of targets and the exclusion of texts share this pass, so that a pool is
read once for all of them. Per row 32 bytes are kept, 8 more for token counts, and the text of a thousand sample rows.
Rows that are not in the feature store are read a second time when they are embedded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from itl_hf import distributed
from itl_hf.embedding.reading import RowReading, TextPair
from itl_hf.embedding.row_keys import RowKeys, check_batch, keys_of, read_batches, text_columns
from itl_hf.embedding.shared_reading import exchange, own_range
from itl_hf.embedding.token_counter import TokenCounter
from itl_hf.gp.pool import spaced_rows
from itl_hf.text import Row, TextRows, plain_text
from itl_hf.text.alike import current_collector
from itl_hf.text.bad_rows import BadRows
from itl_hf.text.normalization import normalize_text

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from itl_hf.embedding.embedders.base import Embedder

#: Evenly spaced rows whose text is kept; they show which wording the rows of a dataset share.
SAMPLE_ROWS = 1_000


def read_dataset(
    dataset: Dataset | TextRows,
    embedder: Embedder | None = None,
    *,
    also_check: Embedder | None = None,
    count_tokens: bool = False,
    counts_folder: Path | None = None,
    keep_texts: bool = False,
    skip_bad_rows: bool = False,
    share_rows: bool = False,
) -> RowReading:
    """Reads the text of all rows once; each row is checked on the way.

    Args:
        dataset (`Dataset` or `TextRows`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`, *optional*):
            Its `check` is called with every row, and its tokenizer counts tokens.
        also_check (`Embedder`, *optional*):
            Another embedder whose `check` is called with every row.
        count_tokens (`bool`, *optional*, defaults to `False`):
            Whether to count each row's tokens.
        counts_folder (`Path`, *optional*):
            Where the numbers of tokens are kept; rows that are found there are not tokenized.
        keep_texts (`bool`, *optional*, defaults to `False`):
            Whether to keep the text of every row.
        skip_bad_rows (`bool`, *optional*, defaults to `False`):
            Whether rows that cannot be read are only noted in the result.
        share_rows (`bool`, *optional*, defaults to `False`):
            Whether each of several processes reads a part of the rows and gets the rest from the others. All processes
            must then call this together. Texts are not exchanged: with `keep_texts` every process reads all rows.

    Raises:
        `ValueError`: If no column holds text, rows cannot be read (the message lists all of them by kind), or tokens
            are to be counted and the embedder has no tokenizer of a language model.

    Example:
        >>> import datasets
        >>> reading = read_dataset(datasets.Dataset.from_dict({"text": ["a b", "c", "A  b"]}))
        >>> reading.rows_with_prompts(reading.prompt_keys[:1]).tolist()
        [0, 2]
    """
    rows = text_columns(dataset)
    counter = TokenCounter(embedder, counts_folder) if count_tokens else None
    if share_rows:
        distributed.initialize()
    if share_rows and not keep_texts and distributed.world_size() > 1:
        read_part = functools.partial(_read_rows, rows, own_range(len(rows)), embedder, also_check, counter, False)
        reading = exchange(read_part, rows, current_collector())
    else:
        reading = _read_rows(rows, range(len(rows)), embedder, also_check, counter, keep_texts)
    if counter is not None:
        counter.keep(reading)
    if len(reading.bad_rows) and not skip_bad_rows:
        raise ValueError(reading.bad_rows.message(len(rows)))
    return reading


def _read_rows(
    rows: TextRows,
    numbers: range,
    embedder: Embedder | None,
    also_check: Embedder | None,
    counter: TokenCounter | None,
    keep_texts: bool,
) -> RowReading:
    """Reads the rows of these numbers; the arrays of the result have one entry for each of them."""
    sample_rows = set(spaced_rows(len(rows), SAMPLE_ROWS))
    no_keys = np.empty((0, 2), dtype=np.uint64)
    key_parts, prompt_parts, token_counts = [no_keys], [no_keys], [np.empty(0, dtype=np.int64)]
    texts: list[TextPair] = []
    sample: dict[int, TextPair] = {}
    bad_rows = BadRows()
    for start, batch in read_batches(rows, embedder, numbers.start, numbers.stop, bad_rows):
        if also_check is not None:
            check_batch(also_check, batch, start, bad_rows)
        batch_texts = _texts(batch, start, bad_rows)
        key_parts.append(keys_of(batch))
        prompt_parts.append(prompt_keys_of(prompt for prompt, _ in batch_texts))
        sample |= {start + i: pair for i, pair in enumerate(batch_texts) if start + i in sample_rows and any(pair)}
        if keep_texts:
            texts += batch_texts
        if counter is not None:
            token_counts.append(counter.count(batch, key_parts[-1], start, bad_rows))
    return RowReading(
        keys=RowKeys(rows.column_names, np.concatenate(key_parts)),
        prompt_keys=np.concatenate(prompt_parts),
        sample=sample,
        num_tokens=None if counter is None else np.concatenate(token_counts),
        texts=texts if keep_texts else None,
        bad_rows=bad_rows,
    )


def _texts(batch: Sequence[Row], start: int, bad_rows: BadRows) -> list[TextPair]:
    """Prompt and completion of each row; empty for rows that cannot be read."""
    texts = []
    for number, row in enumerate(batch, start):
        try:
            texts.append(plain_text(row))
        except ValueError as error:
            bad_rows.add(number, error)
            texts.append(("", ""))
    return texts


def prompt_keys_of(prompts: Iterable[str]) -> np.ndarray:
    """128 bits of each normalized prompt, (B, 2) uint64."""
    digests = [hashlib.blake2b(normalize_text(prompt).encode(), digest_size=16).digest() for prompt in prompts]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).astype(np.uint64)
