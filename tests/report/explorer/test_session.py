"""Clicks as values."""

from __future__ import annotations

import pytest

from itl_hf.report.explorer.row_table import matching
from itl_hf.report.explorer.session import Filters, Session, act, choose_target, reselect, set_filters


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"do": "show", "kind": "pick", "number": 10**9},
        {"do": "show", "kind": "pick", "number": -1},
        {"do": "show", "kind": "nothing", "number": 0},
        {"do": "show", "kind": "pick", "number": "0"},
        {"do": "show", "kind": "pick", "number": True},
        {"do": "drop", "number": 120},
        {"do": "drop", "number": -1},
        {"do": "restore", "number": 3.5},
        {"do": "target", "number": None},
        {"do": ["a"], "number": 1},
    ],
)
def test_wishes_that_make_no_sense_are_ignored(explored, wish):
    assert act(explored, Session(), wish) == Session()


def test_showing_a_target_chooses_it(explored):
    session = act(explored, Session(), {"do": "show", "kind": "target", "number": 2})
    assert (session.point, session.target) == (("target", 2), 2)
    assert choose_target(explored, session, -1).target is None


def test_drop_and_restore(explored):
    session = act(explored, Session(), {"do": "drop", "number": 5})
    session = act(explored, session, {"do": "drop", "number": 6})
    assert session.dropped == {5, 6}
    assert act(explored, session, {"do": "restore", "number": 5}).dropped == {6}


def test_select_again_and_back(explored, made):
    first = int(made.selection.indices[0])
    session = reselect(explored, act(explored, Session(), {"do": "drop", "number": first}))
    assert session.mode == "before"
    assert first not in session.now(explored).indices
    back = reselect(explored, act(explored, session, {"do": "restore", "number": first}))
    assert back.now(explored) is made.selection
    assert back.mode == "rank"


def test_what_stands_in_the_way_is_said(bare, explored):
    session = reselect(bare, Session(dropped=frozenset([1])))
    assert "--store" in session.trouble
    assert session.again is None
    assert "rows are left" in reselect(explored, Session(dropped=frozenset([1])), 500).trouble
    assert "at least 1" in reselect(explored, Session(dropped=frozenset([1])), -2).trouble


def test_filters(explored, made):
    selection = made.selection
    assert matching(selection, Filters()) == list(range(len(selection)))
    sums = matching(selection, Filters(groups=("sums",)))
    assert [selection.dataset[place]["task"] for place in sums] == ["sums"] * len(sums)
    words = matching(selection, Filters(text="ABOUT poems"))
    assert words == [place for place in range(len(selection)) if selection.dataset[place]["task"] == "poems"]
    assert matching(selection, Filters(text="Answer number")) == list(range(len(selection)))
    strong = matching(selection, Filters(gain=0.5))
    assert all(selection.gains[place] >= 0.5 * selection.gains.max() for place in strong)
    assert 0 < len(strong) < len(selection)
    session = set_filters(Session(page=3), Filters(text="x"))
    assert (session.page, session.filters.text) == (0, "x")
