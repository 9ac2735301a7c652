"""Several processes read the pool's text once together, and get what one process reads."""

from __future__ import annotations

import json

import pytest

from tests.selection.reading_counts import SIZES, TARGETS, TEXTS
from tests.worlds import script


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    script("tests.selection.reading_counts", folder)
    return {size: [json.loads((folder / f"{size}-{rank}.json").read_text()) for rank in range(size)] for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
def test_every_row_is_read_by_one_process(workers, size):
    counts = [worker["checked"] for worker in workers[size]]
    assert sum(counts) == len(TEXTS) + len(TARGETS)
    assert max(counts) <= -(-len(TEXTS) // size) + -(-len(TARGETS) // size)


@pytest.mark.parametrize("size", SIZES)
def test_every_process_gets_what_one_process_reads(workers, size):
    (one,) = workers[1]
    assert "6 of 101 rows cannot be read" in one["results"][2]
    assert one["results"][1][4]["count"] == 6
    for worker in workers[size]:
        assert worker["results"] == one["results"]


@pytest.mark.parametrize("size", SIZES)
def test_tokens_are_counted_once_by_all_processes_together(workers, size):
    one = workers[1][0]["counts"][0][0]
    first, second = zip(*(worker["counts"] for worker in workers[size]), strict=True)
    assert [counts for counts, _ in [*first, *second]] == [one] * 2 * size
    assert sum(num_tokenized for _, num_tokenized in first) == len(TEXTS)
    assert sum(num_tokenized for _, num_tokenized in second) == 0
