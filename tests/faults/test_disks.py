"""Full and read-only disks: a sentence, nothing lost, and the same command works when there is room."""

from __future__ import annotations

import warnings

import pytest

from tests.faults.scripts import result_of
from tests.faults.small_disk import namespace

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    within = namespace()
    if not within:
        warnings.warn("no tmpfs can be mounted: files are limited by RLIMIT_FSIZE instead", stacklevel=1)
    results = result_of("disks", tmp_path_factory.mktemp("disks"), within=within)
    assert results["kind"] == ("tmpfs" if within else "RLIMIT_FSIZE")
    return results


def test_a_full_disk_is_a_sentence_and_loses_nothing(results):
    faults = [
        (name, one)
        for name, outcomes in results["full"].items()
        for one in outcomes
        if one["again"] or one["differing"] or one["code"] not in (0, 1)
    ]
    assert not faults
    for name, outcomes in results["full"].items():
        failed = [one for one in outcomes if one["code"]]
        assert failed or name == "cache", name  # features that do not fit in the cache stay in memory
        # `embed` and `save` are Python, with a traceback; without a tmpfs the output is a limited file, too.
        for one in failed if results["kind"] == "tmpfs" and name not in ("embed", "save") else ():
            assert "Traceback" not in one["text"], (name, one)
            assert "unexpected" not in one["text"], (name, one)
            assert "space" in one["text"] or "File too large" in one["text"], (name, one)


def test_a_read_only_disk_is_refused_at_once_and_can_be_read(results):
    outcome = results["read_only"]
    if "skipped" in outcome:
        pytest.skip(outcome["skipped"])
    for name, one in outcome["refused"].items():
        assert one["code"] == 2, (name, one)
        assert "nothing can be written" in one["text"], (name, one)
        assert "Traceback" not in one["text"], (name, one)
    for name, one in outcome["works"].items():
        assert one["code"] == 0, (name, one)
    assert "cannot be kept" in outcome["works"]["cached anew"]["text"]
    assert outcome["same"]
