"""Rows of the pools: a prompt, a completion and a task, all strings."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, str]

#: End of a prompt that asks for an answer, as in the rows of BIG-bench.
CUE = "\nAnswer:"


def plain_row(row: dict[str, Any]) -> Row:
    """Returns a conversation of one question and one answer as two strings."""
    return task_row(row["prompt"][0]["content"], row["completion"][0]["content"], row["task"])


def task_row(question: str, answer: str, task: str) -> Row:
    """Returns a row whose prompt asks for an answer, as the rows of BIG-bench do."""
    return {"prompt": f"{question.strip()}{CUE}", "completion": f" {answer.strip()}", "task": task}


def chat_row(message: str, reply: str, task: str) -> Row:
    """Returns a row of a message and its reply, without a word that is not theirs."""
    return {"prompt": f"{message.strip()}\n", "completion": reply.strip(), "task": task}


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows whose prompt has not occurred before."""
    rows_by_prompt: dict[str, Row] = {}
    for row in rows:
        rows_by_prompt.setdefault(row["prompt"], row)
    return list(rows_by_prompt.values())


def package_folder(name: str, install: str) -> Path:
    """Returns the folder of an installed package, without importing it.

    Raises:
        `FileNotFoundError`: If the package is missing. The message says what to install.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {name} is missing; install it with: pip install {install}")
    return Path(spec.submodule_search_locations[0])
