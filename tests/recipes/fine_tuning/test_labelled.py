"""Gradients of shortlists: which rows are on one, that each gradient is computed once, and a run of every method."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import yaml

from itl_hf import Gradients, select_rows
from recipes.benchmarks.fine_tuning import __main__ as command
from recipes.benchmarks.fine_tuning import labelled, spoilt
from recipes.benchmarks.fine_tuning.cells import Cell
from recipes.benchmarks.fine_tuning.config import Config, Method
from recipes.benchmarks.fine_tuning.labelled import LabelledBench, RowCache
from recipes.benchmarks.fine_tuning.tuner import Tuner
from recipes.benchmarks.fine_tuning.variants import variant
from tests.recipes.fine_tuning.conftest import SETS, SIZES, made_rows

METHODS = [
    "itl",
    {"name": "less-by-task", "acquisition": "less", "subtasks": True},
    "less_round_robin",
    "gist",
    "unbalanced_transport",
    "loss_drop",
    {"name": "itl-hidden-states", "acquisition": "itl", "features": "hidden-states"},
    {"name": "rds", "acquisition": "round_robin", "whole_pool": True},
    {"name": "bm25", "whole_pool": True},
    "targets-alone",
]


@pytest.fixture(scope="module")
def config_path(model_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "data").mkdir()
    made_rows().to_json(folder / "data" / "train.jsonl")
    content = {
        "sets": SETS,
        "features": ["gradients-labelled"],
        "shortlist": 3,
        "variants": ["as-is", "relatives"],
        "budgets": [4],
        "seeds": [0],
        "held_out": 2,
        "methods": METHODS,
        "dataset": {"path": str(folder / "data")},
        "model_name_or_path": model_path,
        "sizes": vars(SIZES),
        "training": {"learning_rate": 0.01},
        "results": str(folder / "results"),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def bench(config_path, bench_rows, tmp_path):
    config, rng = Config.read(config_path), np.random.default_rng(0)
    hidden = {part: rng.normal(size=(len(getattr(bench_rows, part)), 6)) for part in ("everything", "bank")}
    features = {"hidden-states": {"rows": hidden["everything"], "bank": hidden["bank"]}}
    return LabelledBench(config, bench_rows, features, work=tmp_path)


def cell_of(bench, name="as-is", features="gradients-labelled"):
    cell = Cell(features, name, "one", "m", 4, 0)
    return cell, variant(bench.rows, name, "one")


def test_a_shortlist_is_the_union_of_the_nearest_rows(bench):
    for name in ("as-is", "relatives"):
        cell, pool = cell_of(bench, name)
        targets = bench.rows.target_rows(pool.shares, 0)
        rows, bank = (bench.features["hidden-states"][part] for part in ("rows", "bank"))
        expected = set()
        for target in targets:  # round-robin with one target takes its nearest rows, prepared as here by default
            picks = select_rows(rows, bank[[target]], len(rows), acquisition="round_robin").indices
            expected |= set([row for row in picks.tolist() if row in set(pool.numbers.tolist())][:3])
        assert bench.shortlist(cell, pool).tolist() == sorted(expected)


def test_gradients_are_those_of_the_rows_and_are_computed_once(bench, monkeypatch):
    cell, pool = cell_of(bench)
    embedded = []
    embed = Gradients.embed
    monkeypatch.setattr(Gradients, "embed", lambda self, rows: embedded.extend(rows) or embed(self, rows))
    monkeypatch.setattr(labelled, "ROWS_AT_ONCE", 7)
    found = bench.candidates(Method("itl", {"acquisition": "itl"}), cell, pool)
    assert len(embedded) == len(found.features) + len(found.target_features)
    gradients = Gradients(bench.config.model(), labels="completion")
    rows = [pool.row(bench.rows, number) for number in found.numbers]
    np.testing.assert_allclose(found.features, embed(gradients, rows).features, atol=2e-3)
    embedded.clear()
    again = RowCache(gradients, bench.work / "gradients-labelled")  # another process
    assert (again.features([*rows, rows[0]])[:-1] == found.features).all()
    assert not embedded
    again.features([{**rows[0], "completion": " another"}])
    assert len(embedded) == 1


def test_losses_before_and_after_are_measured_on_the_shortlist(bench):
    cell, pool = cell_of(bench)
    with pytest.raises(ValueError, match="leave out --no_training"):
        bench.acquisition(Method.parse("loss_drop"), cell, pool, bench.candidates(Method("m", {}), cell, pool))
    bench.tuner = Tuner(bench.config.model(), bench.config.training)
    candidates = bench.candidates(Method("m", {"features": "hidden-states"}), cell, pool)
    drop = bench.acquisition(Method.parse("loss_drop"), cell, pool, candidates)
    rows = [pool.row(bench.rows, number) for number in candidates.numbers]
    np.testing.assert_allclose(drop.before, bench.tuner.measure(rows)[0], rtol=1e-5)
    assert np.mean(drop.after) < np.mean(drop.before)  # the targets are of the same tasks


def test_every_method_runs_and_the_run_continues(config_path, tmp_path):
    options = ["--config", str(config_path), "--work", str(tmp_path)]
    command.main([*options, "--embed"])
    before = set((tmp_path / "features" / "gradients-labelled").rglob("*.npz"))
    command.main(options)
    assert set((tmp_path / "features" / "gradients-labelled").rglob("*.npz")) == before
    with open(config_path.parent / "results_cells.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    names = {name if isinstance(name, str) else name["name"] for name in METHODS}
    assert {cell["method"] for cell in cells} == names | {"untuned"}
    assert len(cells) == 2 * 2 * (1 + len(METHODS))
    untuned = {cell["targets"]: float(cell["loss"]) for cell in cells if cell["method"] == "untuned"}
    alone = [cell for cell in cells if cell["method"] == "targets-alone"]
    assert all(float(cell["loss"]) < untuned[cell["targets"]] for cell in alone)
    assert all(cell["relevant"] == "0" or float(cell["relevant"]) == 0 for cell in alone)
    text = config_path.with_name("results.md").read_text()
    assert "## gradients-labelled, 4 picks" in text


def test_scores_of_learnability_are_compared_with_the_wrong_answers(config_path, tmp_path):
    config = tmp_path / "noise.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config_path.read_text()), "variants": ["noise"]}))
    options = ["--config", str(config), "--sets", "one", "--work", str(tmp_path / "work")]
    spoilt.main([*options, "--results", str(tmp_path / "spoilt.csv")])
    with open(tmp_path / "spoilt.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {(line["score"], line["task"]) for line in lines} >= {("loss_drop", "all"), ("contrast", "all")}
    assert all(0 <= float(line["wrong_by_quality"]) <= 1 for line in lines)
    with np.load(tmp_path / "work" / "spoilt" / "one.npz") as arrays:
        mine = arrays["of_targets"]
        drop = ((arrays["before"] - arrays["after"]) / arrays["before"])[mine]
        wrong = arrays["wrong"][mine]
    pairs = [(a > b) + (a == b) / 2 for a in drop[~wrong] for b in drop[wrong]]
    found = next(line for line in lines if (line["score"], line["task"]) == ("loss_drop", "all"))
    assert float(found["wrong"]) == pytest.approx(wrong.mean(), abs=1e-4)
    assert float(found["roc_auc"] or "nan") == pytest.approx(np.mean(pairs) if pairs else np.nan, abs=1e-3, nan_ok=True)
