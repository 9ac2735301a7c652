"""Run once by test_shared_reading.py: how many rows each of one, two and three processes reads, and what it gets."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from itl_hf import SelectionConstraints, Selector
from itl_hf.embedding import row_keys
from itl_hf.embedding.row_reading import read_dataset
from itl_hf.gp import pool as pool_module
from itl_hf.text import as_dataset
from itl_hf.text.alike import collect_alike_rows
from itl_hf.text.tokens import RowTokenizer
from tests.embedding.fakes import HashEmbedder
from tests.tiny_models import tiny_tokenizer
from tests.worlds import world

SIZES = (1, 2, 3)
TEXTS = [f"row {number % 83} of the pool" if number % 20 else f"bad {number}" for number in range(101)]
TARGETS = ["row 7 of the pool", "row 80 of the pool"]


class Refusing(HashEmbedder):
    """Refuses the rows that begin with `bad`."""

    def check(self, rows, first_row=0):
        super().check(rows, first_row)
        for number, row in enumerate(rows, first_row):
            if row["text"].startswith("bad"):
                raise ValueError(f"row {number}: it begins with bad.")


def selection_of():
    embedder = HashEmbedder()
    constraints = SelectionConstraints(exclude=["row 3 of the pool"])
    selector = Selector(embedder, store=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        selection = selector.select(TEXTS, TARGETS, 9, constraints=constraints)
    texts = sorted(str(one.message) for one in caught)
    record = selection.record.screening, selection.record.pool_fingerprint
    positions = selection.layout.pool.round(4).tolist()
    return embedder.rows_checked, [selection.indices.tolist(), *record, texts, positions]


def reading_of(tokenizer, skip_bad_rows):
    embedder = Refusing()
    embedder.tokenizer = tokenizer
    try:
        with collect_alike_rows() as alike:
            reading = read_dataset(
                as_dataset(TEXTS), embedder, count_tokens=True, skip_bad_rows=skip_bad_rows, share_rows=True
            )
    except ValueError as error:
        return str(error)
    keys = reading.keys.keys.tolist(), reading.prompt_keys.tolist(), reading.num_tokens.tolist()
    return [*keys, sorted(reading.sample.items()), reading.bad_rows.to_json(), alike.message(), str(reading.keys.hash)]


def counts_of(tokenizer, folder):
    """Reads twice with a folder of token counts: the counts, and how many rows were tokenized each time."""
    tokenized = []
    plain_call = RowTokenizer.__call__
    RowTokenizer.__call__ = lambda self, rows, *rest: tokenized.append(len(rows)) or plain_call(self, rows, *rest)
    embedder = HashEmbedder()
    embedder.tokenizer = tokenizer
    results = []
    for _ in range(2):
        tokenized.clear()
        options = {"count_tokens": True, "counts_folder": folder, "share_rows": True}
        reading = read_dataset(as_dataset(TEXTS), embedder, **options)
        results.append([reading.num_tokens.tolist(), sum(tokenized)])
        dist.barrier()  # the first process writes
    RowTokenizer.__call__ = plain_call
    return results


def main(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    row_keys.CHECK_ROWS = 16
    pool_module.BLOCK_ROWS = 30  # four blocks

    def work(rank):
        dist.init_process_group("gloo")
        num_checked, results = selection_of()
        results = [results, reading_of(tokenizer, True), reading_of(tokenizer, False)]
        path = folder / f"{dist.get_world_size()}-{rank}.json"
        counts = counts_of(tokenizer, folder / f"counts-{dist.get_world_size()}")
        values = {"checked": num_checked, "results": results, "counts": counts}
        path.write_text(json.dumps(values), encoding="utf-8")
        dist.destroy_process_group()

    for size in SIZES:
        assert world(size, work) == [0] * size


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
