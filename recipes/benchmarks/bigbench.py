"""Reads BIG-bench (with Natural Instructions) from its source package as rows of prompt, completion and task.

    pip download bigbench==1.0.0 --no-deps --no-binary bigbench -d outputs/downloads    # automatic if missing

2.6 million examples of a thousand subtasks (Apache-2.0). Every file has a canary string that asks to keep the file out
of training corpora, so the rows are generated on each machine and are never committed or published. A prompt consists
of the task's instruction, the example, and the options if there are any.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm

DOWNLOADS = Path("outputs/downloads")
SDIST = "bigbench-1.0.0.tar.gz"
#: Largest number of subtasks of a family, so that the pool has many kinds of tasks and not too many of one kind.
PER_FAMILY = 6
PER_LARGE_FAMILY = {"natural_instructions": 30, "arithmetic": 9, "linguistic_mappings": 11, "multiemo": 3}
#: In bytes instead of characters: a tokenizer splits some scripts into bytes, which makes rows of hundreds of tokens.
MAX_PROMPT, MAX_COMPLETION, MAX_INSTRUCTION, MAX_OPTIONS = 320, 72, 180, 120
#: Tasks without instructions whose inputs are shorter than this get their description as an instruction.
TERSE = 60
MIN_ROWS = 60

Row = dict[str, str]


def sdist(directory: str | Path = DOWNLOADS) -> Path:
    """Returns the path of the package's source archive, which is downloaded with pip if it is missing (358 MB).

    Raises:
        `FileNotFoundError`: If pip could not download it. The message says what to run.
    """
    path = Path(directory) / SDIST
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = ["download", "--quiet", "--no-deps", "--no-binary", "bigbench", "--dest", str(path.parent)]
        result = subprocess.run([sys.executable, "-m", "pip", *command, "bigbench==1.0.0"])
        if result.returncode or not path.exists():
            raise FileNotFoundError(f"{path} is missing; get it with: pip {' '.join(command)} bigbench==1.0.0")
    return path


def bigbench_rows(rows_per_task: int, seed: int = 0, directory: str | Path = DOWNLOADS) -> Dataset:
    """Returns at most `rows_per_task` rows of every task that has enough short rows, ordered by task.

    The rows are cached in a file next to the archive, because reading the archive takes half a minute.

    Args:
        rows_per_task (`int`):
            Largest number of rows of a task.
        seed (`int`, *optional*, defaults to 0):
            Seed of the choice of rows.
        directory (`str` or `Path`, *optional*):
            Folder of the archive.

    Returns:
        `datasets.Dataset`: Columns `prompt`, `completion`, `task` (its path in BIG-bench) and `family`. No prompt
        occurs twice.
    """
    cache_path = Path(directory) / f"bigbench-{rows_per_task}-{seed}-{_version()}.parquet"
    if not cache_path.exists():
        rows = Dataset.from_list(_read(sdist(directory), rows_per_task, seed))
        draft = cache_path.with_suffix(f".{os.getpid()}")
        rows.to_parquet(draft)
        os.replace(draft, cache_path)
    return Dataset.from_parquet(str(cache_path), keep_in_memory=True)


def _version() -> str:
    """Returns a hash of this file, so that cached rows of other rules are not used."""
    return f"{zlib.crc32(Path(__file__).read_bytes()):08x}"


def _read(archive: Path, rows_per_task: int, seed: int) -> list[Row]:
    tasks: dict[str, list[Row]] = {}
    for name, task in tqdm(_tasks(archive), desc="reading BIG-bench", unit="task"):
        # crc32 instead of hash(), which differs between processes.
        rows = task_rows(name, task, rows_per_task, Random(zlib.crc32(f"{name}/{seed}".encode())))
        if len(rows) >= MIN_ROWS:
            tasks[name] = rows
    prompts: set[str] = set()
    rows_of_all_tasks = [row for name in _spread(sorted(tasks)) for row in tasks[name]]
    return [row for row in rows_of_all_tasks if not (row["prompt"] in prompts or prompts.add(row["prompt"]))]  # type: ignore[func-returns-value]


def _tasks(archive: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with tarfile.open(archive, "r|gz") as members:
        for member in members:
            parts = Path(member.name).parts
            if "benchmark_tasks" not in parts or parts[-1] != "task.json" or not member.isfile():
                continue
            file = members.extractfile(member)
            if file is not None:
                yield "/".join(parts[parts.index("benchmark_tasks") + 1 : -1]), json.load(file)


def _spread(names: list[str]) -> list[str]:
    """Limits the number of subtasks of each family; those that stay are evenly spaced in the family's list."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("/")[0], []).append(name)
    subtasks = []
    for family, members in families.items():
        count = min(len(members), PER_LARGE_FAMILY.get(family, PER_FAMILY))
        subtasks += [members[len(members) * place // count] for place in range(count)]
    return subtasks


def task_rows(name: str, task: Mapping[str, Any], count: int, rng: Random) -> list[Row]:
    """Returns at most `count` different short rows of a task.

    Args:
        name (`str`):
            The task's path.
        task (`Mapping`):
            Content of its `task.json`.
        count (`int`):
            Largest number of rows.
        rng (`Random`):
            Random generator that shuffles the examples.
    """
    examples = list(task.get("examples") or [])
    rng.shuffle(examples)
    instruction = instruction_of(task)
    rows: dict[str, Row] = {}
    for example in examples:
        row = _row(example, instruction, name)
        if row is not None:
            rows.setdefault(row["prompt"], row)
        if len(rows) == count:
            break
    return list(rows.values())


def instruction_of(task: Mapping[str, Any]) -> str:
    """Returns the task's instruction, or its first sentence if it is long.

    A task without an instruction gets its description if its inputs are too short to be understood alone.
    """
    prefix = _plain(str(task.get("task_prefix") or ""))
    if prefix and len(prefix) > MAX_INSTRUCTION:
        prefix = re.split(r"(?<=[.?!:])\s", prefix.removeprefix("Definition: "), maxsplit=1)[0]
        prefix = prefix if len(prefix) <= MAX_INSTRUCTION else ""
    if prefix:
        return prefix
    inputs = [str(example.get("input", "")) for example in (task.get("examples") or [])[:50]]
    description = _plain(str(task.get("description") or ""))
    terse = sum(len(text) < TERSE for text in inputs) * 2 > len(inputs)
    return description if terse and len(description) <= MAX_INSTRUCTION else ""


def _row(example: Mapping[str, Any], instruction: str, name: str) -> Row | None:
    """Returns an example as a row, or `None` if it is too long or has no right answer in words."""
    text, answer = example.get("input"), _answer(example)
    if not isinstance(text, str) or not text.strip() or not answer or len(answer.encode()) > MAX_COMPLETION:
        return None
    parts = [instruction, text.strip(), _options(example), "Answer:"]
    prompt = "\n".join(part for part in parts if part)
    if len(prompt.encode()) > MAX_PROMPT:
        return None
    return {"prompt": prompt, "completion": f" {answer}", "task": name, "family": name.partition("/")[0]}


def _answer(example: Mapping[str, Any]) -> str:
    target, scores = example.get("target"), example.get("target_scores")
    if isinstance(scores, Mapping) and scores:
        target = max(scores, key=lambda option: scores[option])
    if isinstance(target, list):
        target = target[0] if target else ""
    return _plain(target) if isinstance(target, str) else ""


def _options(example: Mapping[str, Any]) -> str:
    scores = example.get("target_scores")
    if not isinstance(scores, Mapping):
        return ""
    options = "Options: " + " | ".join(_plain(str(option)) for option in scores)
    return options if len(options) <= MAX_OPTIONS else ""


def _plain(text: str) -> str:
    return " ".join(text.split())
