"""SIGKILL at seeded file operations and times of every stage but training: the next run ends as if there was none."""

from __future__ import annotations

import pytest

from tests.faults.scripts import result_of

STAGES = ("embed", "select", "cache", "clear", "save", "index", "preview", "report")
pytestmark = pytest.mark.faults


def test_the_next_run_ends_as_if_there_was_no_kill(tmp_path):
    results = result_of("kills", tmp_path, *STAGES)
    assert set(results) == set(STAGES)
    faults = {name: one["faults"] for name, one in results.items() if one["faults"]}
    assert not faults
    kills = {name: one["kills"] for name, one in results.items()}
    assert sum(kills.values()) >= 150, kills
    assert all(one["kills"] >= one["points"] for one in results.values()), kills  # each at its operation
