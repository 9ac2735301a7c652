"""SIGKILL at seeded file operations and times of a push: the Hub holds the old or the new version, and the next push
completes it."""

from __future__ import annotations

import pytest

from tests.faults.scripts import result_of

pytestmark = pytest.mark.faults


def test_the_next_push_completes_it(tmp_path):
    result = result_of("pushes", tmp_path)
    assert not result["faults"]
    assert result["kills"] >= 20, result
