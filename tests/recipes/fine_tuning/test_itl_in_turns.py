"""The trial in which targets take turns: against brute force in float64, and against ITL for one target."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.benchmarks.fine_tuning.config import Method
from recipes.benchmarks.fine_tuning.picking import picked_rows

ROWS, TARGETS = np.random.default_rng(0).normal(size=(60, 5)), np.random.default_rng(1).normal(size=(4, 5))
LINEAR = {"acquisition": "itl_in_turns", "kernel": "linear", "standardize": False}


def pick(options, targets, count=12):
    return picked_rows(options, ROWS, targets, count, seed=0, texts=([], [])).tolist()


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_equals_brute_force(balance):
    noise, cov, picks = 1.0, ROWS @ ROWS.T, []
    cosines = TARGETS @ TARGETS.T / np.outer(*[np.linalg.norm(TARGETS, axis=1)] * 2)
    shares = (1 / (cosines**2).sum(1)) ** balance
    turns = np.zeros(len(TARGETS))
    for _ in range(12):
        target = np.argmin((turns + 0.5) / shares)
        turns[target] += 1
        cross, own = ROWS @ TARGETS[target], np.diag(cov).copy()
        if picks:
            weights = np.linalg.solve(cov[np.ix_(picks, picks)] + noise * np.eye(len(picks)), cov[picks])
            cross, own = cross - weights.T @ cross[picks], own - (cov[picks] * weights).sum(0)
        score = np.where(cross > 0, cross, 0) ** 2 / (own + noise)
        score[picks] = -1
        picks.append(int(score.argmax()))
    select = {**LINEAR, "balance": balance, "noise_std": noise}
    assert pick(select, TARGETS) == picks


def test_is_itl_for_one_target():
    itl = {"acquisition": "itl", "shortlist": None}
    assert pick({"acquisition": "itl_in_turns"}, TARGETS[:1]) == pick(itl, TARGETS[:1])


def test_a_configuration_may_name_it():
    assert Method.parse({"name": "turns", "acquisition": "itl_in_turns", "balance": 0.5}).options["balance"] == 0.5
