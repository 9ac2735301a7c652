"""One of two processes dies or raises: both end soon, and the next run ends as if nothing had happened."""

from __future__ import annotations

import pytest

from tests.faults.scripts import result_of

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    pytest.importorskip("trl")
    return result_of("ranks", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", ["embed", "select"])
def test_both_end_and_the_next_run_is_whole(results, name):
    for one in results[name]:
        victim_code = one["codes"][one["victim"]]
        assert victim_code == (-9 if one["fate"] == "dies" else victim_code) != 0, one
        assert one["codes"][1 - one["victim"]] not in (0, -9), one  # -9: it was waited for too long
        assert one["seconds"] < 100, one
        assert one["again"] == [0, 0], one
        assert not one["differing"], one
        if one["fate"] == "raises":
            assert "this process fails" in one["texts"][one["victim"]], one


def test_torchrun_ends_when_a_process_dies(results):
    outcome = results["torchrun"]
    assert outcome["codes"][0] != 0
    assert outcome["codes"][1] == 0, outcome["text"]
    assert len(outcome["content"]) == 4, outcome
