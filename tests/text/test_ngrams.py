"""The screen by runs of words, against a comparison of every run with every run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.text.ngrams import NgramScreen

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=14)


def shares_run(row, text, length):
    """Whether a row holds `length` successive words of a text, or all words of a shorter one."""
    length = min(length, len(text))
    runs = [text[start : start + length] for start in range(len(text) - length + 1)]
    return len(text) >= 4 and any(row[start : start + length] in runs for start in range(len(row) - length + 1))


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4), st.integers(4, 6))
def test_rows_are_those_of_brute_force(rows, texts, length):
    overlaps = list(NgramScreen(map(" ".join, texts), length).overlaps(map(" ".join, rows)))
    expected = [i for i, row in enumerate(rows) if any(shares_run(row, text, length) for text in texts)]
    assert [one.row for one in overlaps] == expected
    for one in overlaps:
        words = one.words.split()
        assert shares_run(words, texts[one.text], len(words))
        assert f" {one.words} " in f" {' '.join(rows[one.row])} "


def test_case_punctuation_and_form_do_not_count():
    screen = NgramScreen(["Janet’s ducks lay 16 eggs per day; she eats three."], 8)
    assert len(list(screen.overlaps(["JANET'S  ducks,\nlay 16 eggs per day (she eats three)!"]))) == 1
    assert not list(screen.overlaps(["Janet's ducks lay 17 eggs per day. She eats three."]))


def test_short_texts_and_lengths():
    assert NgramScreen(["Yes.", "No way."]).num_too_short == 2
    with pytest.raises(ValueError, match="at least 4"):
        NgramScreen([], 3)
