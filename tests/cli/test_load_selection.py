"""`itl-hf report` and `itl-hf diagnose`, and what `select` tells machines."""

from __future__ import annotations

import json

import pytest

from itl_hf import Selection


@pytest.fixture(scope="module")
def folder(files, run, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "selected"
    result = run("select", "--config", files / "run.yaml", "--num_examples", 4, "--output_dir", path, "--json")
    assert result.exit_code == 0, result.output
    return path, json.loads(result.stdout)


def test_select_says_what_it_did(folder):
    path, said = folder
    selection = Selection.load(path)
    assert said["indices"] == selection.indices.tolist()
    assert said["picks"] == 4
    assert said["output_dir"] == str(path)
    assert said["seconds"] > 0
    assert any("among the picks" in notice for notice in said["notices"])  # the fixture's targets are in its pool


def test_report(folder, run, tmp_path):
    result = run("report", folder[0], "-o", tmp_path / "page.html", "--title", "Mine", "--json", "--max_picks", 1)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert said["bytes"] == len(html.encode())
    assert "<h1>Mine</h1>" in html
    assert "The first 1 of 4 are listed" in html


def test_diagnose(folder, run):
    text = run("diagnose", folder[0], "--rows", 1).stdout
    assert "4 of 24 rows leave" in text
    assert "Note:" in text
    assert "... and 1 more" in text
    said = json.loads(run("diagnose", folder[0], "--json").stdout)
    diagnosis = Selection.load(folder[0]).diagnose()
    assert said["variance_left"] == pytest.approx(diagnosis.left)
    assert [target["verdict"] for target in said["targets"]] == [target.verdict for target in diagnosis.targets]


def test_what_is_no_selection_is_named(run, tmp_path):
    assert isinstance(run("report", tmp_path).exception, FileNotFoundError)
    assert run("diagnose", tmp_path, "--rows", -1).exit_code == 2
