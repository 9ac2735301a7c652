"""Runs among candidates: all processes take the steps of the first one, also where their machine rounds differently."""

from __future__ import annotations

import types

import pytest
import torch

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search import speculation
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import Candidates
from itl_hf.search.limits import Limits
from itl_hf.search.speculation import Speculator
from tests.search.kernels import KERNELS

NUMBERS = torch.arange(30)


def speculator(objective, kernel, limited):
    rows = torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pool = Pool(rows)
    process = OBJECTIVES[objective](GaussianProcess(KERNELS[kernel], rows[:3] + 0.1, 0.5, 0.5))
    limits = {"costs": 1.0 + NUMBERS.double() % 3, "budget": 9.0, "groups": NUMBERS % 2} if limited else {}
    candidates = Candidates.from_rows(NUMBERS, pool.rows(NUMBERS.tolist()), process, 30)
    tracker = AvailabilityTracker(8, **limits)
    return Speculator(pool, process, Limits(tracker, pool.device), replace=False, picks=[]), candidates


@pytest.mark.parametrize("objective", ["itl", "ctl"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("limited", [False, True])
def test_a_process_that_rounds_differently_takes_the_steps_of_the_first(objective, kernel, limited, monkeypatch):
    alone, candidates = speculator(objective, kernel, limited)
    expected = alone.run(candidates, 8)
    other, candidates = speculator(objective, kernel, limited)
    count, own_numbers, take = len(expected.positions), [], Speculator._take
    # What process 0 sends. This process prefers another row at the third step.
    sent = torch.full((9, 4), -torch.inf, dtype=torch.float64)
    sent[:, 0], sent[8, 0] = -1, 1
    columns = expected.positions, expected.scores, expected.margins, [1.0] * count
    sent[:count] = torch.tensor(columns, dtype=torch.float64).T

    def take_and_differ(self, state, count, expected_indices, forced=None):
        numbers = take(self, state, count, expected_indices, forced).clone()
        numbers[2, 0] = (numbers[2, 0] + 1) % 30
        return numbers

    monkeypatch.setattr(Speculator, "_take", take_and_differ)
    processes = types.SimpleNamespace(
        world_size=lambda: 2, broadcast_from_first=lambda own: own_numbers.append(own) or sent
    )
    monkeypatch.setattr(speculation, "distributed", processes)
    run = other.run(candidates, 8)
    assert len(own_numbers) == 1
    assert run.positions == expected.positions
    assert len(run.stats) == len(expected.stats) == count + 1
    for own, one in zip(run.stats, expected.stats, strict=True):
        torch.testing.assert_close(own, one, rtol=0, atol=0)
    if limited:
        torch.testing.assert_close(run.open_rows.max_costs, expected.open_rows.max_costs, rtol=0, atol=0)
        torch.testing.assert_close(run.open_rows.open_groups, expected.open_rows.open_groups)
    assert other.objective.num_observations == alone.objective.num_observations


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_a_run_ends_where_no_row_is_left_or_a_pick_is_not_the_expected_one(steps, monkeypatch):
    monkeypatch.setattr(speculation, "STEPS_BETWEEN_READS", steps)
    for waits in (False, True):
        one, candidates = speculator("itl", "linear", True)
        one.waits = waits  # as on a device, where a run goes on until it is read
        run = one.run(candidates, 30)
        costs = [1.0 + number % 3 for number in run.positions]
        assert 9 - 1 < sum(costs) <= 9
        assert one.objective.num_observations == len(run.positions) == len(run.stats) - 1
        one.objective.truncate(0)
        expected = [*run.positions[:2], 29 if run.positions[2] != 29 else 28, *run.positions[3:]]
        assert one.run(candidates, len(expected), expected).positions == run.positions[:3]
        assert one.objective.num_observations == 3
