"""A small benchmark on the packaged model; takes minutes."""

from __future__ import annotations

import csv
import statistics

import pytest
import yaml
from datasets import Dataset

pytest.importorskip("reasoning_gym")

from recipes.benchmarks.fine_tuning import __main__ as command
from recipes.offline import reasoning_rows, smollm2

TARGETS = ("word_sequence_reversal", "number_filtering")
OTHERS = ("chain_sum", "gcd", "spell_backward", "calendar_arithmetic", "letter_counting", "maze")


@pytest.mark.slow
def test_itl_beats_random_and_untuned(tmp_path):
    try:
        model = smollm2()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    rows = reasoning_rows({**dict.fromkeys(TARGETS, 126), **dict.fromkeys(OTHERS, 30)}, seed=0)
    flat = [
        {
            "prompt": row["prompt"][0]["content"],
            "completion": " " + row["completion"][0]["content"],
            "task": row["task"],
        }
        for row in rows
    ]
    (tmp_path / "data").mkdir()
    Dataset.from_list(flat).to_json(tmp_path / "data" / "train.jsonl")
    content = {
        "sets": {"both": list(TARGETS)},
        "variants": ["as-is"],
        "budgets": [24],
        "seeds": [0],
        "held_out": 8,
        "methods": ["itl", "random"],
        "dataset": {"path": str(tmp_path / "data")},
        "model_name_or_path": str(model),
        "sizes": {"pool_per_task": 30, "repeated_per_task": 1, "garbage": 4},
        "training": {"first_layer": 0.6667},
        "results": str(tmp_path / "small"),
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    command.main(["--config", str(path), "--work", str(tmp_path / "work")])
    with open(tmp_path / "small_cells.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    loss = {
        name: statistics.fmean(float(c["loss"]) for c in cells if c["method"] == name)
        for name in ("itl", "random", "untuned")
    }
    assert loss["itl"] < loss["random"] < loss["untuned"]
