"""The advice to compare with round-robin: only where that was measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from itl_hf.selection.diagnosis.few_picks import few_picks_text


def selection(num_picks, num_targets, acquisition="itl", weights=None):
    record = SimpleNamespace(acquisition_name=acquisition, target_weights=weights, undirected=None)
    variance = np.ones((num_picks + 1, num_targets))
    return SimpleNamespace(gains=np.ones(num_picks), target_variance=variance, record=record)


def test_many_equal_targets_and_few_picks():
    text = few_picks_text(selection(96, 44))
    assert text is not None
    assert "2.2 picks for each target" in text
    assert 'acquisition="round_robin"' in text


@pytest.mark.parametrize(
    "other",
    [
        selection(96, 8),
        selection(1_000, 44),
        selection(0, 44),
        selection(96, 44, acquisition="round_robin"),
        selection(96, 44, weights={"smallest": 1.0, "largest": 2.0, "mean": 1.5}),
    ],
)
def test_nothing_is_said_elsewhere(other):
    assert few_picks_text(other) is None
