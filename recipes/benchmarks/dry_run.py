"""Compares the estimates of `--dry_run` with real runs.

    python -m recipes.benchmarks.dry_run      # results/dry_run.json

For each case it runs `itl-hf embed --dry_run` and then `itl-hf embed`, each in a process of its own, on rows of the
quickstart's pool, and compares rows, tokens, seconds, disk and memory. Seconds are wall-clock time: the machine should
be idle, or equally busy during both runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recipes.benchmarks.parts import run
from recipes.benchmarks.pools import minilm
from recipes.offline import reasoning_pool, smollm2

RESULTS = Path(__file__).parent / "results" / "dry_run.json"
COMPARED = ("rows", "tokens", "seconds", "disk_bytes", "memory_bytes")


def _compare(*options: str, rows_per_task: int = 20) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.jsonl"
        reasoning_pool(rows_per_task).to_json(str(pool))
        command = ["embed", str(pool), "--store", f"{folder}/store", *options, "--json"]
        estimate, real = _call(*command, "--dry_run"), _call(*command)
    ratios = {f"{name}_ratio": estimate[name] / real[name] for name in COMPARED}
    estimate_fields = ("tokens_error", "seconds_error", "timed_rows", "startup_seconds")
    return {
        "estimated": {name: estimate[name] for name in (*COMPARED, *estimate_fields)},
        "real": {name: real[name] for name in COMPARED},
        **ratios,
    }


def _call(*words: str) -> dict[str, Any]:
    result = subprocess.run([sys.executable, "-m", "itl_hf", *words], capture_output=True, text=True, check=True)
    outcome: dict[str, Any] = json.loads(result.stdout)
    return outcome


def sentence_encoder() -> dict[str, Any]:
    """all-MiniLM-L6-v2."""
    return _compare("--embedder", "sentence_encoder", "--model", str(minilm()))


def hidden_states() -> dict[str, Any]:
    """SmolLM2-135M, layer 2 of 30, so that the real run takes minutes."""
    return _compare("--model", str(smollm2()), "--layer", "2", "--batch_tokens", "2048")


def gradients() -> dict[str, Any]:
    """SmolLM2-135M, the gradients of two kinds of layers, over 345 rows."""
    return _compare(
        *("--embedder", "gradients", "--model", str(smollm2()), "--modules", "v_proj,down_proj"),
        *("--labels", "predicted", "--batch_tokens", "1024"),
        rows_per_task=5,
    )


if __name__ == "__main__":
    parts = {"sentence_encoder": sentence_encoder, "hidden_states": hidden_states, "gradients": gradients}
    run(parts, RESULTS, __doc__)
