"""A small data set of synthetic tasks, and the rows of a benchmark made from it."""

from __future__ import annotations

import pytest
from datasets import Dataset

from recipes.benchmarks.fine_tuning.rows import BenchmarkRows, Sizes
from tests.tiny_models import tiny_model, tiny_tokenizer

TASKS = ("double", "reverse", "first", "last", "shout", "count")
SETS = {"one": ["double", "reverse"], "two": ["first", "last"]}
SIZES = Sizes(pool_per_task=12, repeated_per_task=1, garbage=8)


def made_rows(count=SIZES.rows_per_task):
    rows = []
    for place, task in enumerate(TASKS):
        for number in range(count):
            word = f"{'abcdefgh'[number % 8]}{number:03d}"
            rows.append({"prompt": f"{task} the word {word}:", "completion": f" {word[::-1]}{place}", "task": task})
    return Dataset.from_list(rows)


@pytest.fixture(scope="session")
def bench_rows():
    return BenchmarkRows(made_rows(), SETS, SIZES)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny_model("llama", layers=4).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return str(path)
