"""A small pool of synthetic tasks with a bank of labelled rows."""

from __future__ import annotations

import pytest
from datasets import Dataset

from recipes.benchmarks.ten_pools.pool import Part, Pool
from tests.tiny_models import tiny_model, tiny_tokenizer

TASKS = tuple(f"task{number}" for number in range(12))


def made_rows(tasks, first, last):
    return Dataset.from_list(
        [
            {
                "prompt": f"{task} asks for {'abcdefgh'[number % 8]}{number:03d}:",
                "completion": f" {number}",
                "task": task,
            }
            for task in tasks
            for number in range(first, last)
        ]
    )


def made_pool(**options):
    halves = {"development": TASKS[:6], "test": TASKS[6:]}
    parts = [Part("made/pool", made_rows(TASKS, 0, 14))]
    return Pool("made", parts, Part("made/bank", made_rows(TASKS, 100, 148)), halves, **options)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny_model("llama", layers=4).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return str(path)
