"""Training on two processes, which are started once for all tests because starting takes most of the time."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("trl")

from itl_hf.training import SelectionSampler
from tests.training import tiny
from tests.worlds import script


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The outcome of each scenario, a list with one entry for each process."""
    directory = tmp_path_factory.mktemp("two-processes")
    script("tests.training.two_processes", directory)
    ranks = [json.loads((directory / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [one.pop("processes") for one in ranks] == [2, 2]
    return {name: [one[name] for one in ranks] for name in ranks[0]}


def shuffled(rows, epoch):
    sampler = SelectionSampler(rows, order="shuffled", seed=1)
    sampler.set_epoch(epoch)
    return list(sampler)


def in_batches(rows):
    return [rows[start : start + 2] for start in range(0, len(rows), 2)]


def merge_batches(ranks, epoch, steps):
    """The batches of one epoch in the order of the sampler: process 0, process 1, process 0, ..."""
    span = slice(epoch * steps, (epoch + 1) * steps)
    return [batch for pair in zip(ranks[0]["whole"][span], ranks[1]["whole"][span], strict=True) for batch in pair]


@pytest.mark.parametrize("name", ["even", "uneven", "dropped", "sft", "rounds", "sft rounds", "stored rounds"])
def test_a_run_resumed_in_mid_epoch_has_the_same_batches_and_weights(outcomes, name):
    ranks = outcomes[name]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    for one in ranks:
        assert one["resumed"] == one["whole"][4:]
        assert len(one["resumed"]) > 0
        assert one["equal"]


@pytest.mark.parametrize("name", ["even", "sft"])
def test_each_process_trains_on_its_part_of_the_picks(outcomes, name):
    assert outcomes[name][0]["warned"] == outcomes[name][1]["warned"] == []
    for epoch in range(2):
        assert merge_batches(outcomes[name], epoch, steps=3) == in_batches(shuffled(range(0, 36, 3), epoch))


def test_a_warning_says_how_many_picks_are_repeated(outcomes):
    ranks = outcomes["uneven"]
    assert "filled up with 2 that were trained on already" in ranks[0]["warned"][0]
    assert ranks[1]["warned"] == []
    for epoch in range(2):
        expected_batches = in_batches(shuffled(range(0, 42, 3), epoch))
        assert merge_batches(ranks, epoch, steps=4) == [*expected_batches, expected_batches[0]]


def test_picks_that_do_not_fill_a_step_can_be_left_out(outcomes):
    ranks = outcomes["dropped"]
    assert ranks[0]["warned"] == []
    for epoch in range(2):
        assert merge_batches(ranks, epoch, steps=3) == in_batches(shuffled(range(0, 42, 3), epoch)[:12])


@pytest.mark.parametrize("name", ["rounds", "sft rounds", "stored rounds"])
def test_both_processes_have_the_same_rounds(outcomes, name):
    ranks = outcomes[name]
    assert ranks[0]["picks"] == ranks[1]["picks"]
    first, second = ranks[0]["picks"]
    assert len({*first, *second}) == 24
    for epoch, picks in enumerate(ranks[0]["picks"]):
        assert merge_batches(ranks, epoch, steps=3) == in_batches(shuffled(picks, epoch))


def test_the_first_round_is_the_same_as_on_one_process(outcomes):
    alone = tiny.select(tiny.pool(text=True), 12).indices.tolist()
    assert outcomes["rounds"][0]["picks"][0] == outcomes["stored rounds"][0]["picks"][0] == alone
