"""What `select_rows` says about numbers that it cannot compute with: refused with the culprit named, or said in a
warning and the record."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from itl_hf import select_rows
from itl_hf.selection import memory_limits
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.per_target import select_rows_per_target
from itl_hf.selection.result.record import SelectionRecord

GENERATOR = np.random.default_rng(0)
POOL, TARGETS = GENERATOR.standard_normal((700, 8)), GENERATOR.standard_normal((4, 8))


def nan_for(first, second):
    """A kernel that is NaN between rows whose first features are these, in either order."""

    def kernel(rows, others):
        values = torch.exp(-torch.cdist(rows, others))
        for left, right in ((first, second), (second, first)):
            is_left, is_right = (rows[:, 0] - left).abs() < 1e-5, (others[:, 0] - right).abs() < 1e-5
            values = values.masked_fill(is_left[:, None] & is_right, torch.nan)
        return values

    return kernel


@pytest.mark.parametrize("select", [select_rows, select_rows_per_target])
def test_a_kernel_that_is_nan_names_the_row_and_the_target(select):
    kernel = nan_for(POOL[613, 0], TARGETS[2, 0])
    with pytest.raises(ValueError, match=r"is nan for row 613 of the pool and target 2") as refusal:
        select(POOL, TARGETS, 3, kernel=kernel, standardize=False)
    assert "Mend the kernel" in str(refusal.value)


def test_a_kernel_that_is_nan_everywhere_is_refused():
    with pytest.raises(ValueError, match="is nan for"):
        select_rows_per_target(
            POOL, TARGETS, 4, kernel=lambda rows, others: torch.full((len(rows), len(others)), torch.nan)
        )


def test_a_kernel_that_is_nan_between_targets_names_both():
    with pytest.raises(ValueError, match="is nan for target 1 and target 3"):
        select_rows(POOL, TARGETS, 3, kernel=nan_for(TARGETS[1, 0], TARGETS[3, 0]), standardize=False)


@pytest.mark.parametrize("select", [select_rows, select_rows_per_target])
def test_a_kernel_that_is_nan_between_rows_names_both(select):
    """The first pick and some other row."""
    plain = lambda rows, others: torch.exp(-torch.cdist(rows, others))
    first = int(np.ravel(select(POOL, TARGETS, 1, kernel=plain, standardize=False).indices)[0])
    other = 17 if first != 17 else 18
    with pytest.raises(ValueError, match=rf"is nan for row ({first}|{other}) of the pool and row ({first}|{other}) "):
        select(
            POOL, TARGETS, 3, kernel=nan_for(POOL[first, 0], POOL[other, 0]), standardize=False, **everything(select)
        )


def everything(select):
    return {"num_candidates": None} if select is select_rows_per_target else {}


@pytest.mark.parametrize("select", [select_rows, select_rows_per_target])
@pytest.mark.parametrize("noise_std", [1e-300, 1e-9, 1e9, 1e300])
def test_noise_beyond_64_bits_is_refused_in_a_sentence(select, noise_std):
    with pytest.raises(ValueError, match=r"noise_std (is|must be)"):
        select(POOL, TARGETS, 3, noise_std=noise_std)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_features_beyond_64_bits_are_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        select_rows(POOL * scale, TARGETS * scale, 3, kernel="linear", standardize=False)


def test_picks_that_rounding_decides_are_said():
    """Eight dimensions, all of which are known after eight picks without noise."""
    with pytest.warns(UserWarning, match="are not certain to be the best"):
        selection = select_rows(POOL, TARGETS, 20, kernel="linear", noise_std=1e-6)
    exactness = selection.record.exactness
    assert exactness["first"] >= 4
    assert exactness["count"] <= 16
    assert SelectionRecord.from_json(selection.record.to_json()) == selection.record


def test_nothing_is_said_of_ordinary_picks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, {"kernel": "linear"}, {"acquisition": "ctl"}, {"acquisition": "vtl"}):
            assert select_rows(POOL, TARGETS, 30, **options).record.exactness is None
        assert select_rows_per_target(POOL, TARGETS, 30).record.exactness is None


def test_picks_again_and_again_are_bounded(monkeypatch):
    with pytest.raises(ValueError, match=r"num_examples=1000000000000 picks .* pick at most \d+ rows"):
        select_rows(POOL, TARGETS, 10**12, constraints=SelectionConstraints(replace=True))
    with pytest.raises(ValueError, match="pick fewer rows"):
        select_rows_per_target(POOL, TARGETS, 10**12, replace=True)
    monkeypatch.setattr(memory_limits, "machine_bytes", lambda: 2**20)
    with pytest.raises(ValueError, match="keeps a number for each pair of the 700 rows and 4000 targets"):
        select_rows(POOL, np.tile(TARGETS, (1000, 1)), 1, acquisition="ctl")


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (lambda rows, others: rows[:, :1] * others[:, 1:2].T, "no covariance: .* the same two the other way round"),
        (lambda rows, others: -rows @ others.T, "no covariance: it is -.* for target 0 and target 0"),
    ],
)
def test_a_kernel_that_is_no_covariance_is_refused(kernel, words):
    with pytest.raises(ValueError, match=words):
        select_rows(POOL, TARGETS, 4, kernel=kernel, noise_std=1.0)
