"""The benchmark of replay rows, from made records to its table, and which rows it measures and trains on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from datasets import Dataset

from itl_hf import Replay, select_rows
from recipes.benchmarks import replay
from recipes.tables import write_csv

TASKS = [f"task {number}" for number in range(6) for _ in range(5)]
FEATURES = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


class Pool(SimpleNamespace):
    """Thirty labelled rows of six tasks, and two hundred rows to pick from."""

    def __init__(self):
        rows = {"prompt": [f"prompt {number}" for number in range(30)], "completion": ["yes"] * 30, "task": TASKS}
        super().__init__(held_out=Dataset.from_dict(rows))


def bench():
    made = replay.Bench.__new__(replay.Bench)
    made.pool, made.rows, made.bank = Pool(), FEATURES, FEATURES[:30]
    return made


def test_replay_rows_stand_behind_the_picks_and_are_none_of_them():
    selection = select_rows(FEATURES, FEATURES[:8], replay.NUM_PICKS)
    alone = bench()._training_rows(selection, None)
    for each in (Replay(0.2), Replay(0.2, "k_means")):
        rows = bench()._training_rows(selection, each)
        assert rows[:96].tolist() == alone.tolist()
        assert len(rows) == len(set(rows.tolist())) == 96 + each.num_rows(96)


def test_other_tasks_are_measured_on_their_last_rows():
    rows = bench()._rows_of_other_tasks(SimpleNamespace(tasks=("task 0", "task 1", "task 2", "task 3")))
    assert [row["prompt"] for row in rows] == ["prompt 23", "prompt 24", "prompt 28", "prompt 29"]


def test_the_table_has_differences_to_the_picks_alone(tmp_path):
    losses = {"picks alone": (1.0, 3.0), "0.2 random": (1.5, 2.5)}
    records = [
        {"pool": "p", "set": number, "replay": name, "rows": 96, "target_loss": own + number, "other_loss": other}
        for number in range(2)
        for name, (own, other) in losses.items()
    ]
    write_csv(tmp_path / "replay.csv", records)
    again = replay.read(tmp_path / "replay.csv")
    assert again == records
    lines = replay.table(again).splitlines()
    assert lines[2] == "| p | picks alone | 96 | 1.500 | 3.000 |"
    assert lines[3] == "| p | 0.2 random | 96 | 2.000 (+0.500 ± 0.000) | 2.500 (-0.500 ± 0.000) |"
