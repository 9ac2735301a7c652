from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader

from itl_hf.training import SelectionSampler

PICKS = [11, 3, 7, 0, 19, 4, 8]


@pytest.mark.parametrize(
    "picks",
    [
        PICKS,
        tuple(PICKS),
        np.array(PICKS),
        np.array(PICKS, dtype=np.uint8),
        torch.tensor(PICKS),
        torch.tensor(PICKS, dtype=torch.int32),
        SimpleNamespace(indices=np.array(PICKS)),
        SimpleNamespace(indices=torch.tensor(PICKS)),
        torch.utils.data.Subset(range(20), PICKS),
    ],
    ids=lambda picks: type(picks).__name__,
)
def test_gain_order_is_the_order_of_the_picks(picks):
    sampler = SelectionSampler(picks)
    assert list(sampler) == list(sampler) == PICKS
    assert len(sampler) == len(PICKS)
    assert all(type(row) is int for row in sampler)


def test_gain_order_is_the_same_in_every_epoch():
    sampler = SelectionSampler(PICKS)
    sampler.set_epoch(3)
    assert list(sampler) == PICKS


def test_rows_may_repeat():
    assert list(SelectionSampler([2, 2, 1])) == [2, 2, 1]
    assert sorted(SelectionSampler([2, 2, 1], order="shuffled")) == [1, 2, 2]


def test_the_order_does_not_change_with_the_callers_array():
    picks = np.array(PICKS)
    sampler = SelectionSampler(picks)
    picks[:] = 0
    assert list(sampler) == PICKS


@given(
    picks=st.lists(st.integers(0, 10**12), min_size=1, max_size=60),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_shuffled_is_a_permutation_decided_by_seed_and_epoch(picks, seed, epoch):
    sampler, other = (SelectionSampler(picks, order="shuffled", seed=seed) for _ in range(2))
    sampler.set_epoch(epoch)
    other.set_epoch(epoch)
    assert list(sampler) == list(other)
    assert sorted(sampler) == sorted(picks)


def test_shuffled_differs_between_epochs_and_seeds():
    orders = set()
    for seed in range(4):
        sampler = SelectionSampler(range(50), order="shuffled", seed=seed)
        for epoch in range(4):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
    assert len(orders) == 16


def test_global_random_state_is_neither_read_nor_changed():
    orders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        orders.append(list(SelectionSampler(PICKS, order="shuffled")))
        assert torch.equal(torch.get_rng_state(), before)
        assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert orders[0] == orders[1]


def test_the_sampler_has_no_attribute_called_generator():
    assert not hasattr(SelectionSampler(PICKS, order="shuffled"), "generator")


def test_the_default_device_does_not_matter():
    expected = list(SelectionSampler(PICKS, order="shuffled"))
    with torch.device("meta"):
        assert list(SelectionSampler(PICKS, order="shuffled")) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_plain_data_loader(workers):
    sampler = SelectionSampler(PICKS, order="shuffled", seed=5)
    loader = DataLoader(range(100, 120), sampler=sampler, batch_size=3, num_workers=workers)
    assert len(loader) == 3
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert [value - 100 for batch in loader for value in batch.tolist()] == list(sampler)


@pytest.mark.parametrize("order", ["gain", "shuffled"])
@pytest.mark.parametrize("num_consumed", [0, 1, 4, len(PICKS) - 1])
def test_state_resumes_in_the_middle_of_an_epoch(order, num_consumed):
    sampler = SelectionSampler(PICKS, order=order, seed=3)
    sampler.set_epoch(2)
    whole = list(sampler)
    iterator = iter(sampler)
    first_rows = [next(iterator) for _ in range(num_consumed)]
    state = json.loads(json.dumps(sampler.state_dict()))

    resumed = SelectionSampler(PICKS, order=order, seed=3)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(resumed) == len(PICKS)
    resumed.set_epoch(2)  # as training loops do before every epoch
    assert first_rows + list(resumed) == whole
    assert list(resumed) == whole  # only one pass is shortened


def test_after_loading_another_epoch_starts_at_its_beginning():
    sampler = SelectionSampler(PICKS)
    next(iter(sampler))
    resumed = SelectionSampler(PICKS)
    resumed.load_state_dict(sampler.state_dict())
    resumed.set_epoch(1)
    assert list(resumed) == PICKS


def test_state_of_another_sampler_is_refused():
    state = SelectionSampler(PICKS, order="shuffled", seed=1).state_dict()
    with pytest.raises(ValueError, match=r"seed 1 \(here 2\)"):
        SelectionSampler(PICKS, order="shuffled", seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="length 7"):
        SelectionSampler(PICKS[:-1], order="shuffled", seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="picks '"):
        SelectionSampler(PICKS[::-1], order="shuffled", seed=1).load_state_dict(state)


@pytest.mark.parametrize(
    ("picks", "error", "words"),
    [
        ([], ValueError, "selection is empty"),
        (np.array([], dtype=np.int64), ValueError, "selection is empty"),
        ([3, -1], ValueError, "Pick 1 is row -1"),
        ([0.5, 1.0], TypeError, "float64"),
        (torch.tensor([1.0]), TypeError, "float32"),
        (np.array([True, False]), TypeError, "flatnonzero"),
        (["1"], TypeError, "integer row numbers"),
        ([[1, 2], [3, 4]], ValueError, r"\(2, 2\)"),
        (5, ValueError, "flat list"),
        (None, TypeError, "integer row numbers"),
    ],
)
def test_bad_picks(picks, error, words):
    with pytest.raises(error, match=words):
        SelectionSampler(picks)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": "random"}, "'gain', 'shuffled', 'interleaved'"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"multiple_of": 0}, "multiple_of must be a whole number of at least 1"),
        ({"multiple_of": 8}, "7 picks, but a step takes 8"),
        ({"order": "interleaved"}, "bare row numbers do not have"),
        ({"order": "interleaved", "nearest_targets": [0, 1]}, "nearest_targets must be 7 numbers"),
    ],
)
def test_bad_arguments(changes, words):
    with pytest.raises(ValueError, match=words):
        SelectionSampler(PICKS, **changes)


def test_bad_epoch():
    with pytest.raises(ValueError, match="epoch"):
        SelectionSampler(PICKS).set_epoch(-1)


@given(targets=st.lists(st.integers(-3, 9), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_interleaved_takes_one_pick_of_each_target_in_turn(targets):
    picks_by_target = {}
    for pick, target in enumerate(targets):
        picks_by_target.setdefault(target, []).append(pick)
    groups = picks_by_target.values()
    expected_order = [group[turn] for turn in range(len(targets)) for group in groups if turn < len(group)]
    sampler = SelectionSampler(range(len(targets)), order="interleaved", nearest_targets=targets)
    assert list(sampler) == expected_order
    sampler.set_epoch(4)
    assert list(sampler) == expected_order


def test_nearest_targets_are_read_from_a_selection():
    dataset = Dataset.from_dict({"itl_nearest_target": [1, 1, 0, 1, 0, 2, 2]})
    selection = SimpleNamespace(indices=np.array(PICKS), dataset=dataset)
    assert list(SelectionSampler(selection, order="interleaved")) == [11, 7, 4, 3, 19, 8, 0]


@pytest.mark.parametrize("order", ["gain", "shuffled", "interleaved"])
def test_picks_that_do_not_fill_a_step_are_left_out_with_multiple_of(order):
    options = {"order": order, "seed": 3, "nearest_targets": [0, 0, 1, 1, 0, 2, 1]}
    whole, part = SelectionSampler(PICKS, **options), SelectionSampler(PICKS, multiple_of=3, **options)
    for epoch in range(3):
        whole.set_epoch(epoch)
        part.set_epoch(epoch)
        assert len(part) == 6
        assert list(part) == list(whole)[:6]


@pytest.mark.parametrize(("multiple_of", "num_rows_trained"), [(4, 4), (1, 8)])
def test_multiple_of_keeps_accelerate_from_repeating_picks(multiple_of, num_rows_trained):
    sampler = SelectionSampler(PICKS, order="shuffled", multiple_of=multiple_of)
    batches = BatchSampler(sampler, batch_size=2, drop_last=False)
    shards = [BatchSamplerShard(batches, num_processes=2, process_index=rank) for rank in range(2)]
    rows = [row for shard in shards for batch in shard for row in batch]
    assert len(rows) == num_rows_trained
    assert (len(set(rows)) == len(rows)) is (multiple_of == 4)  # 7 picks in steps of 4: one is repeated by default


def test_in_a_loop_of_accelerate():
    sampler = SelectionSampler(PICKS, order="shuffled", seed=5)
    loader = Accelerator(cpu=True).prepare(DataLoader(range(100, 120), sampler=sampler, batch_size=3))
    for epoch in range(2):
        loader.set_epoch(epoch)
        rows = [value - 100 for batch in loader for value in batch.tolist()]
        assert sampler.epoch == epoch
        assert rows == list(sampler)
