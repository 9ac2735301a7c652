"""SIGKILL at seeded file operations and times of training: the same command ends with the same weights and picks."""

from __future__ import annotations

import pytest

from tests.faults.scripts import result_of

STAGES = ("rounds", "picks")
pytestmark = pytest.mark.faults


def test_the_same_command_ends_with_the_same_weights(tmp_path):
    pytest.importorskip("trl")
    results = result_of("kills", tmp_path, *STAGES)
    faults = {name: one["faults"] for name, one in results.items() if one["faults"]}
    assert not faults
    kills = {name: one["kills"] for name, one in results.items()}
    assert sum(kills.values()) >= 50, kills
    assert all(one["kills"] >= one["points"] for one in results.values()), kills
