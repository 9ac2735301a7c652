"""`itl-hf explore` as a user types it, up to the point where it would serve."""

from __future__ import annotations

import json

import pytest

from itl_hf.report import explorer


@pytest.fixture
def served(monkeypatch):
    """What would be served, and how."""
    calls = []

    class Page:
        local_url = "http://127.0.0.1:1/"

        def block_thread(self):
            calls.append("waits")

    def serve(explored, **options):
        calls.extend([explored, options])
        return Page()

    monkeypatch.setattr(explorer, "serve", serve)
    return calls


@pytest.fixture(scope="module")
def selected(files, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore") / "selected"
    done = run("select", "--config", files / "run.yaml", "--output_dir", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_what_select_left_in_the_store_is_enough_to_select_again(files, run, selected, served):
    done = run("explore", selected, "--pool", files / "pool.jsonl", "--store", files / "store", "--compare", selected)
    assert done.exit_code == 0, done.output
    explored, options, waits = served
    assert explored.obstacle == ""
    assert (explored.name, explored.other_name) == ("selected", "selected")
    assert options == {"host": "127.0.0.1", "port": None, "inbrowser": False}
    assert waits == "waits"
    assert "http://127.0.0.1:1/" in done.output
    from itl_hf.report.explorer.reselect import select_again

    assert select_again(explored, []).indices.tolist() == explored.selection.indices.tolist()


def test_a_selection_alone_can_be_looked_at(run, selected, served):
    done = run("explore", selected)
    assert done.exit_code == 0, done.output
    assert "Selecting again is not possible" in done.output


def test_a_machine_is_told_the_address_before_it_waits(run, selected, served):
    done = run("explore", selected, "--json")
    facts = json.loads(done.stdout)
    assert (facts["command"], facts["url"]) == ("explore", "http://127.0.0.1:1/")
    assert "Selecting again is not possible" in facts["obstacle"]
    assert served[-1] == "waits"


def test_a_space_is_written_and_nothing_served(run, selected, served, tmp_path):
    done = run("explore", selected, "--space", tmp_path / "space")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "space" / "app.py").exists()
    assert served == []


def test_targets_are_asked_for_with_a_space_only(run, selected, served):
    done = run("explore", selected, "--include_targets")
    assert done.exit_code == 2
    assert "--space" in done.output
