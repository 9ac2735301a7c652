"""The packaged model and data as the files that recipes' configs name: `python -m recipes.offline_files`, once.

    outputs/models/SmolLM2-135M-Instruct      the model
    outputs/offline/pool.jsonl                3,057 rows of 69 kinds, prompt and completion
    outputs/offline/pool-768.jsonl            768 of them, evenly spaced; any other number works as well
    outputs/offline/targets.jsonl             45 prompts of four kinds, 24/12/6/3
    outputs/offline/held_out.jsonl            32 rows of each of the four, with completions

Recipes call `ensure` for the paths in their config; a path that is not one of these is left alone, so the same config
with other names runs on your own model and data.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from datasets import Dataset

from recipes.offline import MODEL_DIRECTORY, smollm2
from recipes.quickstart.data import quickstart_data

DIRECTORY = Path("outputs/offline")
POOL, SMALL_POOL, TARGETS, HELD_OUT = (
    DIRECTORY / f"{name}.jsonl" for name in ("pool", "pool-768", "targets", "held_out")
)


def ensure(*names: str | os.PathLike[str] | None) -> None:
    """Makes those of the named files that are ours and not there yet; on several processes each makes whole files.

    Raises:
        `ValueError`: A part of the pool with more rows than the pool.
    """
    wanted = {Path(name) for name in names if name is not None}
    if MODEL_DIRECTORY in wanted:
        smollm2()
    missing = [path for path in sorted(wanted) if _is_ours(path) and not path.exists()]
    if not missing:
        return
    data = quickstart_data()
    for path in missing:
        part = _part(path)
        if path == TARGETS:
            _write(data.targets, path)
        elif path == HELD_OUT:
            _write(data.held_out, path)
        else:
            _write(data.pool if part is None else _spaced(data.pool, part), path)


def _is_ours(path: Path) -> bool:
    return path in (POOL, TARGETS, HELD_OUT) or _part(path) is not None


def _part(path: Path) -> int | None:
    """How many rows of the pool a name asks for."""
    found = re.fullmatch(r"pool-([1-9]\d*)\.jsonl", path.name)
    return int(found.group(1)) if found and path.parent == DIRECTORY else None


def _spaced(pool: Dataset, count: int) -> Dataset:
    """Rows from the whole pool, all kinds in it in equal shares."""
    if count > len(pool):
        raise ValueError(f"the packaged pool has {len(pool)} rows, not {count}")
    return pool.select(np.linspace(0, len(pool) - 1, count).round().astype(np.int64))


def _write(rows: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    rows.to_json(unfinished, force_ascii=False)
    os.replace(unfinished, path)


if __name__ == "__main__":
    files = (MODEL_DIRECTORY, POOL, SMALL_POOL, TARGETS, HELD_OUT)
    ensure(*files)
    print("\n".join(map(str, files)))
