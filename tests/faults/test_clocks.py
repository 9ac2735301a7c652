"""Clocks of 1999 and 2040, and files of the other century: the results are those of a right clock."""

from __future__ import annotations

import pytest

from tests.faults.scripts import result_of

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    pytest.importorskip("trl")
    return result_of("clocks", tmp_path_factory.mktemp("clocks"))


@pytest.mark.parametrize("name", ["now", "1999", "2040", "back", "forth"])
def test_the_results_are_those_of_a_right_clock(results, name):
    assert not results[name]["faults"]
    assert not results[name]["differing"]


def test_the_age_of_what_is_kept_is_that_of_the_clock(results):
    codes_and_counts = results["now"]["cleared"]
    assert codes_and_counts["1999"][0] == codes_and_counts["2040"][0] == 0
    assert codes_and_counts["1999"][1] > 0
    assert codes_and_counts["2040"][1] == 0
