"""Runs the benchmark from its config to its page with a tiny model, in parts and resumed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml

pytest.importorskip("sklearn")

from recipes.benchmarks.ten_pools import __main__ as command
from recipes.benchmarks.ten_pools.cells import Bench, Cell, jobs
from recipes.benchmarks.ten_pools.config import Config
from recipes.benchmarks.ten_pools.registry import POOLS
from recipes.benchmarks.ten_pools.store import Store
from tests.recipes.ten_pools.conftest import made_pool

METHODS = [
    "itl",
    "round_robin",
    {"name": "random", "acquisition": "random", "sets": 1},
    {"name": "itl-hidden", "acquisition": "itl", "features": "hidden-states"},
]
SETS = 3


@pytest.fixture(scope="module", autouse=True)
def pools():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POOLS, "made", made_pool)
        patch.setitem(POOLS, "unlabelled", lambda: made_pool(labelled=False))
        yield


def write(path, **changes):
    content = {
        "pools": ["made"],
        "features": "tfidf",
        "halves": ["development", "test"],
        "shares": ["equal", "handful"],
        "budgets": [8],
        "sets": SETS,
        "methods": METHODS,
        "results": str(path.parent / "results" / "small.csv"),
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def run(tmp_path, model_path):
    def start(*options, **changes):
        path = write(tmp_path / "config.yaml", model_name_or_path=model_path, **changes)
        command.main(["--config", str(path), "--work", str(tmp_path / "work"), *options])
        with open(tmp_path / "results" / "small.csv", newline="") as file:
            return list(csv.DictReader(file))

    return start


def test_yardsticks_in_two_parts_and_a_third_run(run, tmp_path, monkeypatch):
    jobs_so_far = []
    bench_run = Bench.run
    monkeypatch.setattr(Bench, "run", lambda self, job: jobs_so_far.append(job) or bench_run(self, job))
    run("--part", "1/2")
    run("--part", "2/2")
    cells = run()
    assert len(cells) == len(jobs_so_far) == 2 * 2 * (3 * SETS + 1)
    assert len({Cell.of(cell) for cell in cells}) == len(cells)
    assert {cell["loss"] for cell in cells} == {""}
    assert all(sum(map(int, cell["task_picks"].split("/"))) <= 8 for cell in cells)
    scores = {name: np.mean([float(c["score"]) for c in cells if c["method"] == name]) for name in ("itl", "random")}
    assert scores["itl"] > 2 * scores["random"]
    page = (tmp_path / "results" / "small.md").read_text()
    assert "## Development tasks, equal shares, 8 picks" in page
    assert "## Test tasks, handful shares, 8 picks" in page
    assert "itl-hidden (hidden-states)" in page
    # The committed file alone is enough to resume.
    monkeypatch.setattr(Bench, "run", lambda self, job: pytest.fail("a cell is missing"))
    command.main(["--config", str(tmp_path / "config.yaml"), "--work", str(tmp_path / "elsewhere")])


def test_losses_with_untuned(run, tmp_path):
    cells = run(halves=["test"], shares=["equal"], sets=2, training={"learning_rate": 0.01})
    assert {cell["method"] for cell in cells} == {"untuned", "itl", "round_robin", "random", "itl-hidden"}
    assert all(float(cell["loss"]) > 0 for cell in cells)
    for cell in cells:
        losses = [float(part) for part in cell["task_losses"].split("/")]
        assert np.isclose(float(cell["loss"]), np.mean(losses), atol=2e-3)
    mean = {name: np.mean([float(c["loss"]) for c in cells if c["method"] == name]) for name in ("itl", "untuned")}
    assert mean["itl"] < mean["untuned"]
    assert "| untuned |" in (tmp_path / "results" / "small.md").read_text()


def test_results_of_a_method_can_be_measured_again(run, monkeypatch):
    before = run(shares=["equal"], sets=2)
    seen = []
    bench_run = Bench.run
    monkeypatch.setattr(Bench, "run", lambda self, job: seen.append(job.cell.method) or bench_run(self, job))
    after = run("--again", "itl", shares=["equal"], sets=2)
    assert seen == ["itl"] * 4
    timeless = [[{**cell, "select_seconds": ""} for cell in cells] for cells in (before, after)]
    assert timeless[0] == timeless[1]


def test_only_some_methods_pools_and_halves(run):
    cells = run("--only", "itl", "--halves", "test", "--pools", "made", pools=["made", "unlabelled"])
    assert {(cell["method"], cell["half"], cell["pool"]) for cell in cells} == {("itl", "test", "made")}


def test_without_labels_there_are_no_yardsticks(run):
    cells = run(pools=["unlabelled"], sets=1)
    assert {cell["score"] for cell in cells} == {cell["task_picks"] for cell in cells} == {""}
    assert {cell["originals"] for cell in cells} == {"8"}


def test_shares_that_a_pool_cannot_have_are_left_out(run, capsys, monkeypatch):
    monkeypatch.setattr("recipes.benchmarks.ten_pools.pool.FEWEST_HELD_OUT", 30)
    cells = run(shares=["equal", "mixture"], sets=1, methods=["itl"])
    assert {cell["shares"] for cell in cells} == {"equal"}
    assert "left out: pool 'made'" in capsys.readouterr().out


def test_results_of_other_settings_are_refused(run, tmp_path, model_path):
    run(sets=1)
    with pytest.raises(ValueError, match="results of other settings"):
        run("--publish", training={"learning_rate": 0.02})


def test_an_interrupted_write_leaves_no_record(run, tmp_path):
    run(sets=1, methods=["itl"])
    results, cells = tmp_path / "results" / "small.csv", tmp_path / "work" / "cells"
    results.unlink()
    key = Config.read(tmp_path / "config.yaml").key()
    path, *_ = sorted((cells / f"small-{key}").glob("*.json"))
    cell = Cell.of(json.loads(path.read_text()))
    assert cell in Store(results, cells, key)
    path.rename(path.with_suffix(".123"))  # what an interrupted write leaves
    assert cell not in Store(results, cells, key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["nearest"]}, "unknown acquisition 'nearest'"),
        ({"methods": ["itl", "itl"]}, "same name"),
        ({"pools": ["ponds"]}, "unknown pools"),
        ({"features": {"ponds": "minilm"}}, "unknown features of pools"),
        ({"halves": ["third"]}, "unknown halves"),
        ({"shares": ["most"]}, "unknown shares"),
        ({"budget": [8]}, "unknown keys"),
        ({"sets": 0}, "at least 1"),
    ],
)
def test_wrong_configs_are_refused_before_any_work(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        Config.read(write(tmp_path / "wrong.yaml", **change))


@pytest.mark.parametrize("name", ["yardsticks", "losses", "budgets", "budget_losses"])
def test_the_recipes_own_configs_are_valid(name):
    config = Config.read(command.HERE / f"{name}.yaml")
    assert "itl" in {method.name for method in config.methods}
    assert next(iter(jobs(config)))
    with pytest.raises(ValueError, match="not in the config"):
        config.restricted(["nothing"], None, None)
