"""The record's entries about exactness are notices, which `diagnose`, the report and the card show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from itl_hf.report.sections import HEADINGS
from itl_hf.selection.diagnosis.notices import _exactness
from itl_hf.selection.exactness_notice import many_targets_text, uncertain_picks_text


def record(exactness=None, many_targets=None):
    return SimpleNamespace(exactness=exactness, many_targets=many_targets)


@pytest.mark.parametrize(
    ("count", "largest", "words"),
    [
        (1, 0.004, "1 pick is not certain to be the best (position 3)"),
        (4, 2.0, "4 picks are not certain to be the best, the first at position 3: rounding"),
        (4, 2.0, "by any amount"),
        (4, 0.004, "by up to 0.004 of the gain"),
    ],
)
def test_picks_that_rounding_may_have_decided(count, largest, words):
    entry = {"tolerance": 1e-6, "count": count, "first": 3, "largest": largest}
    assert words in uncertain_picks_text(entry)


def test_targets_that_stand_for_all():
    text = many_targets_text({"targets": 20_000, "pivots": 1024, "lost": 0.0312})
    assert "The 20,000 targets are followed through 1,024 of them, which leave 3.12%" in text


def test_notices_have_headings_and_exact_selections_have_none():
    both = record({"count": 1, "first": 0, "largest": 1.0}, {"targets": 9, "pivots": 3, "lost": 0.1})
    kinds = [notice.kind for notice in _exactness(SimpleNamespace(record=both))]
    assert kinds == ["uncertain", "many_targets"]
    assert set(kinds) <= set(HEADINGS)
    assert _exactness(SimpleNamespace(record=record())) == []
