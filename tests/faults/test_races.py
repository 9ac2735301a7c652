"""Two processes on one folder at once: what they leave is what one of them leaves alone."""

from __future__ import annotations

import pytest

from tests.faults.scripts import result_of

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    pytest.importorskip("trl")
    return result_of("races", tmp_path_factory.mktemp("races"))


def assert_codes(outcomes, *allowed):
    assert not [one for one in outcomes if one["differing"] or sorted(one["codes"]) not in map(sorted, allowed)]


def test_the_same_embedding_twice(results):
    assert_codes(results["first_embeddings"], [0, 0])


@pytest.mark.parametrize("name", ["same_selections", "selections_with_the_cache"])
def test_the_same_selection_twice(results, name):
    """A process that starts when the other has written its selection already is refused, and nothing changes."""
    assert_codes(results[name], [0, 0], [0, 2])
    refused = [one for one in results[name] if 2 in one["codes"]]
    assert all("holds a selection already" in "".join(one["texts"]) for one in refused)


def test_one_of_three_embeddings_is_killed(results):
    outcome = results["one_of_three_embeddings_is_killed"]
    assert outcome["killed"]
    assert_codes([outcome], [-9, 0, 0])


def test_two_selections_into_one_folder(results):
    without, with_overwrite = results["other_selections"]
    assert_codes([without], [0, 2])
    assert "holds a selection already" in "".join(without["texts"])
    assert_codes([with_overwrite], [0, 0])


def test_a_reader_never_sees_two_selections(results):
    outcome = results["a_reader_while_two_write"]
    assert_codes([outcome], [0, 0, 0])
    assert outcome["whole"]


def test_one_of_two_trainings_in_one_folder_is_refused(results):
    assert_codes(results["trainings"], [0, 1], [0, 0])
    assert "another run is training into this folder" in str(results["trainings"][0]["texts"])


def test_two_indexes(results):
    assert_codes(results["indexes"], [0, 0], [0, 1])


def test_a_cache_that_is_cleared_meanwhile(results):
    outcomes = results["a_cache_that_is_cleared_meanwhile"]
    assert_codes(outcomes, [0, 0], [0, 2])
    failed = [one for one in outcomes if 2 in one["codes"]]
    assert all("is absent: embed again" in "".join(one["texts"]) for one in failed)
