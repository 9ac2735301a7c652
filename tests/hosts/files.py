"""Small files for commands on hosts: a pool, targets and a tiny model."""

from __future__ import annotations

import json
from pathlib import Path


def write_rows(folder: Path, rows: int = 240) -> tuple[Path, Path]:
    """Writes pool.jsonl and targets.jsonl and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pool, targets = folder / "pool.jsonl", folder / "targets.jsonl"
    words = ["red", "green", "blue", "sum", "two", "three", "capital", "France", "function", "write", "five", "six"]
    texts = [f"{words[i % 12]} {words[i * 5 % 11]} {words[i * 7 % 9]} {i}" for i in range(rows)]
    pool.write_text("".join(json.dumps({"prompt": text, "completion": " " + text}) + "\n" for text in texts))
    targets.write_text("".join(json.dumps({"prompt": f"the sum of {word}"}) + "\n" for word in words[:4]))
    return pool, targets
