"""Runs the benchmark from its config to its page with a tiny model, in parts and resumed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from recipes.benchmarks.fine_tuning import __main__ as command
from recipes.benchmarks.fine_tuning.cells import Bench, jobs
from recipes.benchmarks.fine_tuning.config import Config
from recipes.benchmarks.fine_tuning.results import Results
from recipes.benchmarks.fine_tuning.tables import difference, page
from recipes.tables import read_csv
from tests.recipes.fine_tuning.conftest import SETS, SIZES, made_rows

METHODS = ["itl", "random", "bm25", {"name": "itl-linear", "acquisition": "itl", "kernel": "linear"}]


@pytest.fixture(scope="module")
def config_path(model_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "data").mkdir()
    made_rows().rename_column("prompt", "question").to_json(folder / "data" / "train.jsonl")
    content = {
        "sets": SETS,
        "variants": ["as-is", "mixture", "noise"],
        "budgets": [4],
        "seeds": [0],
        "held_out": 2,
        "methods": METHODS,
        "dataset": {"path": str(folder / "data"), "prompt": "question"},
        "model_name_or_path": model_path,
        "sizes": vars(SIZES),
        "training": {"learning_rate": 0.01},
        "results": str(folder / "results" / "small"),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(config_path, *options):
    command.main(["--config", str(config_path), "--work", str(config_path.parent / "work"), *options])
    results = config_path.parent / "results"
    with open(results / "small_cells.csv", newline="") as file:
        return results, list(csv.DictReader(file))


def test_two_parts_and_a_third_run_give_one_page(config_path, monkeypatch):
    jobs_so_far = []
    bench_run = Bench.run
    monkeypatch.setattr(Bench, "run", lambda self, job: jobs_so_far.append(job) or bench_run(self, job))
    for part in ("1/2", "2/2"):  # two processes share the work
        run(config_path, "--only", "random", "bm25", "--part", part)
    results, cells = run(config_path)
    assert len(jobs_so_far) == len({job.cells for job in jobs_so_far}) == len(list(jobs(Config.read(config_path))))
    assert len(cells) == len(SETS) * 3 * (1 + len(METHODS))
    assert all(float(cell["loss"]) > 0 for cell in cells)
    random = [cell for cell in cells if cell["method"] == "random" and cell["seed"] == "0"]
    shared = {cell["loss"] for cell in random if cell["targets"] == "one" and cell["variant"] in ("as-is", "mixture")}
    assert len(shared) == 1  # the same picks of the same pool, trained once
    text = (results / "small.md").read_text()
    assert "**itl**" in text
    assert "untuned" in text
    assert (results / "small_hidden-states_loss.svg").stat().st_size > 1000
    assert (results / "small_hidden-states_picks.svg").stat().st_size > 1000


def test_cells_in_the_csv_files_are_not_run_again(config_path, tmp_path, monkeypatch):
    monkeypatch.setattr(Config, "rows", lambda self: pytest.fail("a job is missing"))
    command.main(["--config", str(config_path), "--work", str(tmp_path)])


def test_results_of_other_settings_are_refused(config_path, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**yaml.safe_load(config_path.read_text()), "held_out": 3}))
    with pytest.raises(ValueError, match="results of other settings"):
        command.main(["--config", str(other), "--work", str(tmp_path), "--publish"])


@pytest.mark.parametrize("key", ["12e68321", "01234567", "5fc91f85"])
def test_a_key_that_looks_like_a_number_is_read_as_text(config_path, tmp_path, key):
    job = next(job for job in jobs(Config.read(config_path)) if job.method.name == "itl")
    record = vars(job.cells[0]) | {"loss": 1.5, "weighted_loss": None}
    first = Results(tmp_path / "r", tmp_path / "work", key)
    first.save(job, [record], [record | {"task": "1e5"}])
    first.collect()
    again = Results(tmp_path / "r", tmp_path / "elsewhere", key)
    assert job in again
    (task,) = again.records["tasks"]
    assert (task["key"], task["task"], task["loss"], task["weighted_loss"]) == (key, "1e5", 1.5, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["nearest"]}, "unknown acquisition 'nearest'"),
        ({"variants": ["as is"]}, "unknown variants"),
        ({"pools": []}, "unknown keys"),
        ({"seeds": [7]}, "seeds must be from 0 to 2"),
    ],
)
def test_wrong_configs_are_refused_before_any_work(config_path, tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(config_path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        Config.read(path)


def test_scores_of_given_picks(bench_rows, config_path, monkeypatch):
    config = Config.read(config_path)
    job = next(job for job in jobs(config) if job.cells[0].variant == "as-is" and job.method.name == "itl")
    bench = Bench(config, bench_rows, {})
    tasks = np.array(bench_rows.pool["task"])
    mine = [*np.flatnonzero(tasks == SETS["one"][0])[:3], np.flatnonzero(tasks == "shout")[0]]
    monkeypatch.setattr(Bench, "pick", lambda self, method, cell, pool: np.array(mine))
    (cell,), by_task = bench.run(job)
    # Fair shares are 2 and 2: three of one task supply two of four.
    assert (cell["relevant"], cell["covered"], cell["originals"], cell["score"]) == (0.75, 1, 4, 0.5)
    assert [record["task_picks"] for record in by_task] == [3, 0]


def test_differences_are_averaged_over_seeds_then_sets():
    mine = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 5.0, ("c", 0): 9.0}
    other = {("a", 0): 0.0, ("a", 1): 2.0, ("b", 0): 3.5}
    assert difference(mine, other) == pytest.approx((1.0, 0.5))
    assert difference(mine, {}) is None


def test_a_page_without_losses_has_scores_of_the_picks():
    cell = {"features": "x", "variant": "as-is", "targets": "a", "method": "itl", "picks": 4.0, "seed": 0.0}
    numbers = {"relevant": 1, "covered": 1, "originals": 4, "score": 1.0, "spoilt": 0, "select_seconds": 0.1}
    text = page({"cells": [{**cell, "loss": None, "weighted_loss": None, "exact": None, **numbers}], "tasks": []})
    assert "Held-out loss" not in text
    assert "| as-is | **itl** | 1.00 |" in text


@pytest.mark.parametrize("name", ["core", "handful", "sentence_encoder"])
def test_committed_results_belong_to_the_committed_settings(name):
    folder = Path(command.__file__).parent
    config = Config.read(folder / f"{name}.yaml")
    rows = read_csv(folder.parents[2] / f"{config.results}_cells.csv")
    assert {row["key"] for row in rows} == {config.key()}
