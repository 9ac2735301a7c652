"""A small run on real pools; takes minutes."""

from __future__ import annotations

import csv
import statistics

import pytest
import yaml

pytest.importorskip("reasoning_gym")
pytest.importorskip("sklearn")

from recipes.benchmarks.ten_pools import __main__ as command
from recipes.offline import smollm2


def run(tmp_path, **content):
    path = tmp_path / "config.yaml"
    content = {"results": str(tmp_path / "small.csv"), "features": "tfidf", "methods": ["itl", "random"], **content}
    path.write_text(yaml.safe_dump(content))
    command.main(["--config", str(path), "--work", str(tmp_path / "work")])
    with open(tmp_path / "small.csv", newline="") as file:
        return list(csv.DictReader(file))


def mean(cells, method, column):
    return statistics.fmean(float(cell[column]) for cell in cells if cell["method"] == method)


@pytest.mark.slow
def test_itl_finds_the_targets_tasks_in_generated_pools(tmp_path):
    cells = run(tmp_path, pools=["generated", "words"], halves=["development", "test"], sets=3)
    for pool, least in (("generated", 0.8), ("words", 0.15)):
        own = [cell for cell in cells if cell["pool"] == pool]
        assert mean(own, "itl", "score") > max(least, 2 * mean(own, "random", "score"))


@pytest.mark.slow
def test_training_on_the_picks_of_itl_beats_random_and_untuned(tmp_path):
    try:
        smollm2()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    cells = run(tmp_path, pools=["generated"], sets=1, budgets=[32], training={"first_layer": 0.6667})
    assert mean(cells, "itl", "loss") < mean(cells, "random", "loss") < mean(cells, "untuned", "loss")
