"""Training on two processes, started once for all tests: starting is what takes the time."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("trl")

from itl_hf.training import SelectionSampler
from tests.training import tiny
from tests.worlds import script


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each process saw, by scenario: a list of two."""
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


def dealt(ranks, epoch, steps):
    """The batches of one epoch in the order dealt: process 0, process 1, process 0, ..."""
    span = slice(epoch * steps, (epoch + 1) * steps)
    return [batch for pair in zip(ranks[0]["whole"][span], ranks[1]["whole"][span], strict=True) for batch in pair]


@pytest.mark.parametrize("name", ["even", "uneven", "dropped", "sft", "rounds", "sft rounds", "stored rounds"])
def test_resumed_in_mid_epoch_it_sees_the_same_batches_and_ends_with_the_same_weights(seen, name):
    ranks = seen[name]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    for one in ranks:
        assert one["resumed"] == one["whole"][4:]
        assert len(one["resumed"]) > 0
        assert one["equal"]


@pytest.mark.parametrize("name", ["even", "sft"])
def test_the_picks_are_shared(seen, name):
    assert seen[name][0]["warned"] == seen[name][1]["warned"] == []
    for epoch in range(2):
        assert dealt(seen[name], epoch, steps=3) == in_batches(shuffled(range(0, 36, 3), epoch))


def test_picks_that_cannot_be_shared_evenly_are_announced(seen):
    ranks = seen["uneven"]
    assert "filled up with 2 that were trained on already" in ranks[0]["warned"][0]
    assert ranks[1]["warned"] == []
    for epoch in range(2):
        wanted = in_batches(shuffled(range(0, 42, 3), epoch))
        assert dealt(ranks, epoch, steps=4) == [*wanted, wanted[0]]


def test_or_left_out_if_told_so(seen):
    ranks = seen["dropped"]
    assert ranks[0]["warned"] == []
    for epoch in range(2):
        assert dealt(ranks, epoch, steps=3) == in_batches(shuffled(range(0, 42, 3), epoch)[:12])


@pytest.mark.parametrize("name", ["rounds", "sft rounds", "stored rounds"])
def test_rounds_are_the_same_on_both(seen, name):
    ranks = seen[name]
    assert ranks[0]["picks"] == ranks[1]["picks"]
    first, second = ranks[0]["picks"]
    assert len({*first, *second}) == 24
    for epoch, picks in enumerate(ranks[0]["picks"]):
        assert dealt(ranks, epoch, steps=3) == in_batches(shuffled(picks, epoch))


def test_the_first_round_is_that_of_one_process(seen):
    alone = tiny.select(tiny.pool(text=True), 12).indices.tolist()
    assert seen["rounds"][0]["picks"][0] == seen["stored rounds"][0]["picks"][0] == alone
