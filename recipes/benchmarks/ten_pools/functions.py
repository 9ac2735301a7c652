"""The pool of function calls: prompts of the Berkeley Function-Calling Leaderboard (package `bfcl-eval`, Apache-2.0).

A prompt is the user's first message and the signatures of the functions at hand; the completion is the call, with the
first of the accepted values of each argument. Rows for which no function is right have a sentence that says so as
completion; they are in the pool and never targets. A row's task is its kind, such as `parallel` or `simple_java`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset

from recipes.benchmarks.ten_pools.pool import Part, Pool, split_halves
from recipes.benchmarks.ten_pools.rows import Row, distinct, package_folder, task_row

MAX_PROMPT, MAX_COMPLETION = 640, 240
NO_CALL = "None of the functions can do this."
WITHOUT_ANSWERS = frozenset({"irrelevance", "live_irrelevance", "live_relevance"})
#: Settings of the leaderboard itself, no prompts.
NO_PROMPTS = frozenset({"format_sensitivity"})
#: Labelled rows of each kind that are kept out of the pool, and the fewest that must be left in it.
BANK_PER_KIND, FEWEST_IN_POOL = 64, 20
_PREFIX = "BFCL_v4_"


def function_pool() -> Pool:
    """Returns the pool of function calls. Its targets are of all kinds that have answers and enough rows.

    Raises:
        `FileNotFoundError`: If the package is missing. The message says what to install.
    """
    data = package_folder("bfcl_eval", "--no-deps bfcl-eval==2026.3.23") / "data"
    rows = distinct(_rows(data))
    counts = Counter(row["task"] for row in rows)
    sizes = {kind: bank_size(count) for kind, count in counts.items() if kind not in WITHOUT_ANSWERS}
    kinds = [kind for kind, size in sizes.items() if size]
    bank, pool = split_bank(rows, sizes, "functions")
    return Pool(
        "functions",
        [Part("functions/pool", Dataset.from_list(pool))],
        Part("functions/bank", Dataset.from_list(bank)),
        split_halves("functions", kinds),
    )


def bank_size(num_rows: int) -> int:
    """Returns how many of a task's rows are kept for targets and losses: at most half, and none of a small task."""
    return min(BANK_PER_KIND, num_rows // 2) if num_rows >= 2 * FEWEST_IN_POOL else 0


def split_bank(rows: Iterable[Row], sizes: Mapping[str, int], seed: str) -> tuple[list[Row], list[Row]]:
    """Splits rows at random into a bank with `sizes` rows of each task, and a pool of all others, in their order."""
    rows = list(rows)
    order = Random(seed).sample(range(len(rows)), len(rows))
    num_left = dict(sizes)
    in_bank = set()
    for number in order:
        task = rows[number]["task"]
        if num_left.get(task, 0):
            num_left[task] -= 1
            in_bank.add(number)
    bank = [row for number, row in enumerate(rows) if number in in_bank]
    return bank, [row for number, row in enumerate(rows) if number not in in_bank]


def _rows(data: Path) -> Iterator[Row]:
    for path in sorted(data.glob(f"{_PREFIX}*.json")):
        kind = path.stem.removeprefix(_PREFIX)
        if kind in NO_PROMPTS:
            continue
        answers_path = data / "possible_answer" / path.name
        answers = {entry["id"]: entry["ground_truth"] for entry in _entries(answers_path)}
        for entry in _entries(path):
            row = _row(entry, answers.get(entry["id"]), kind)
            if row is not None:
                yield row


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _row(entry: Mapping[str, Any], answer: Any, kind: str) -> Row | None:
    """Returns the row, or `None` if it is too long, or has no answer although its kind has answers."""
    messages = entry["question"][0] if entry["question"] else []
    question = "\n".join(message["content"].strip() for message in messages)
    functions = [signature(function) for function in entry.get("function", ())] or entry.get("involved_classes", [])
    completion = NO_CALL if kind in WITHOUT_ANSWERS else calls(answer)
    if not question or not completion or len(completion) > MAX_COMPLETION:
        return None
    row = task_row(f"{question}\nFunctions: {'; '.join(functions)}", completion, kind)
    return row if len(row["prompt"]) <= MAX_PROMPT else None


def signature(function: Mapping[str, Any]) -> str:
    """Returns a function as its name with its parameters and their types.

    Example:
        >>> signature({"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}})
        'add(a: integer)'
    """
    properties = function["parameters"].get("properties", {})
    parameters = [f"{name}: {description.get('type')}" for name, description in properties.items()]
    return f"{function['name']}({', '.join(parameters)})"


def calls(answer: Any) -> str:
    r"""Returns the calls of an answer, one a line; a plain answer, such as a name, as it is.

    Example:
        >>> calls([{"area": {"base": [10], "unit": ["", "cm"], "height": [5, 5.0]}}])
        'area(base=10, height=5)'
        >>> calls([["cd(folder='a')", "ls()"], ["pwd()"]])
        "cd(folder='a')\nls()"
    """
    if not answer:
        return ""
    first = answer[0]
    if isinstance(first, list):  # calls of the first turn
        return "\n".join(first)
    if isinstance(first, str):  # accepted answers in words
        return first
    return "\n".join(_call(name, arguments) for call in answer for name, arguments in call.items())


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    # An empty first value means that the argument may be left out.
    values = {key: accepted[0] for key, accepted in arguments.items() if accepted and accepted[0] != ""}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})"
