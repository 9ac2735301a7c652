"""A sampler under random epochs, interruptions and resumptions yields what a list of rows for each epoch says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch.utils.data import BatchSampler

from itl_hf.training import SelectionSampler
from tests.stateful.machine import QUICK, THOROUGH

ORDERS = st.sampled_from(("gain", "shuffled", "interleaved"))
EPOCHS = st.integers(0, 3)


class SamplerMachine(RuleBasedStateMachine):
    """The model: the rows of each epoch as they were seen first, the epoch, and the rows of the pass that are left."""

    @initialize(
        picks=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=12),
        order=ORDERS,
        seed=st.integers(0, 3),
        multiple_of=st.integers(1, 4),
    )
    def start(self, picks, order, seed, multiple_of):
        self.picks, self.targets = [row for row, _ in picks], [target for _, target in picks]
        self.options = {"order": order, "seed": seed, "multiple_of": min(multiple_of, len(picks))}
        self.epoch, self.rows_of_epochs, self.saved_state = 0, {}, None
        self.sampler = self.build()
        self.iterator, self.position, self.first_position = None, 0, 0

    def build(self):
        return SelectionSampler(self.picks, nearest_targets=self.targets, **self.options)

    @property
    def length(self):
        multiple_of = self.options["multiple_of"]
        return len(self.picks) // multiple_of * multiple_of

    def rows(self):
        """The rows of this epoch: those of a sampler that was never interrupted."""
        if self.epoch not in self.rows_of_epochs:
            sampler = self.build()
            sampler.set_epoch(self.epoch)
            self.rows_of_epochs[self.epoch] = list(sampler)
        return self.rows_of_epochs[self.epoch]

    @rule(epoch=EPOCHS)
    def set_epoch(self, epoch):
        self.sampler.set_epoch(epoch)
        if epoch != self.epoch:
            self.position = self.first_position = 0
        self.epoch, self.iterator = epoch, None

    @rule(count=st.integers(1, 6))
    def yield_rows(self, count):
        """Goes on with the pass, or begins one."""
        if self.iterator is None:
            self.iterator, self.position, self.first_position = iter(self.sampler), self.first_position, 0
        rows = [row for _, row in zip(range(count), self.iterator, strict=False)]
        assert rows == self.rows()[self.position : self.position + count]
        self.position += len(rows)
        if len(rows) < count:
            self.iterator, self.position = None, 0

    @rule()
    def finish_pass(self):
        self.yield_rows(self.length + 1)

    @rule()
    def abandon_pass(self):
        self.iterator = None

    @rule()
    def save(self):
        state = self.sampler.state_dict()
        assert (state["epoch"], state["position"]) == (self.epoch, self.position or self.first_position)
        self.saved_state = json.loads(json.dumps(state))

    @rule()
    def resume_in_another_process(self):
        """All that is left is the state; a run sets the epoch before it begins."""
        if self.saved_state is None:
            return
        self.sampler = self.build()
        self.sampler.load_state_dict(self.saved_state)
        self.epoch, self.first_position = self.saved_state["epoch"], self.saved_state["position"]
        self.sampler.set_epoch(self.epoch)
        self.iterator, self.position = None, 0

    @rule(
        change=st.sampled_from(
            (
                {"order": "other"},
                {"seed": 99},
                {"length": 0},
                {"picks": ""},
                {"position": -1},
                {"position": 13},
                {"position": "1"},
                {"position": None},
                {"epoch": -1},
                {"epoch": 0.5},
                {"epoch": float("inf")},
                {"epoch": None},
            )
        )
    )
    def load_a_state_that_does_not_fit(self, change):
        with pytest.raises(ValueError, match=next(iter(change))):
            self.sampler.load_state_dict({**self.sampler.state_dict(), **change})

    @rule(name=st.sampled_from(("epoch", "position", "seed")))
    def load_an_incomplete_state(self, name):
        state = self.sampler.state_dict()
        del state[name]
        with pytest.raises(ValueError, match=name):
            self.sampler.load_state_dict(state)

    @rule(num_processes=st.integers(1, 3), batch_size=st.integers(1, 3), epoch=EPOCHS)
    def several_processes(self, num_processes, batch_size, epoch):
        """Each process builds its own sampler; together they have the rows of the epoch, filled up from its start."""
        self.set_epoch(epoch)
        steps = []
        for rank in range(num_processes):
            sampler = self.build()
            sampler.set_epoch(epoch)
            shard = BatchSamplerShard(BatchSampler(sampler, batch_size, drop_last=False), num_processes, rank)
            steps.append(list(shard))
        assert len({len(batches) for batches in steps}) == 1
        rows = [row for step in zip(*steps, strict=True) for batch in step for row in batch]
        assert rows[: self.length] == self.rows()
        num_repeated = -self.length % (num_processes * batch_size)
        assert len(rows) == self.length + num_repeated

    @invariant()
    def an_epoch_holds_the_picks_in_their_order(self):
        rows = self.sampler.rows().tolist()
        assert len(self.sampler) == len(rows) == self.length
        assert rows == self.rows()
        if self.options["order"] == "gain":
            assert rows == self.picks[: self.length]
        elif self.options["order"] == "interleaved":
            assert rows == interleaved(self.picks, self.targets)[: self.length]
        elif self.length == len(self.picks):
            assert sorted(rows) == sorted(self.picks)


def interleaved(picks, targets):
    """The picks of each target in turn; the turns follow the targets' first picks."""
    groups = {}
    for pick, target in zip(picks, targets, strict=True):
        groups.setdefault(target, []).append(pick)
    return [group[turn] for turn in range(len(picks)) for group in groups.values() if turn < len(group)]


def test_rows_of_an_epoch_are_the_same_in_another_process_and_version():
    """The order is a promise to checkpoints: it may not change between versions."""
    sampler = SelectionSampler(range(10), order="shuffled", seed=3)
    sampler.set_epoch(2)
    assert sampler.rows().tolist() == [4, 0, 9, 3, 2, 7, 5, 6, 1, 8]
    assert sampler.rows().dtype == np.int64


class TestSampler(SamplerMachine.TestCase):
    settings = settings(QUICK, max_examples=60)


@pytest.mark.slow
class TestSamplerThoroughly(SamplerMachine.TestCase):
    settings = THOROUGH
