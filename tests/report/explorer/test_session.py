"""Each click returns a new session."""

from __future__ import annotations

import pytest

from itl_hf.report.explorer.row_table import matching_picks
from itl_hf.report.explorer.session import (
    Filters,
    Session,
    apply_action,
    choose_target,
    reselect,
    set_filters,
    weigh_target,
)
from itl_hf.selection.select_rows import select_rows


@pytest.mark.parametrize(
    "action",
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
def test_invalid_actions_are_ignored(explorer_data, action):
    assert apply_action(explorer_data, Session(), action) == Session()


def test_showing_a_target_chooses_it(explorer_data):
    session = apply_action(explorer_data, Session(), {"do": "show", "kind": "target", "number": 2})
    assert (session.point, session.target) == (("target", 2), 2)
    assert choose_target(explorer_data, session, -1).target is None


def test_drop_and_restore(explorer_data):
    session = apply_action(explorer_data, Session(), {"do": "drop", "number": 5})
    session = apply_action(explorer_data, session, {"do": "drop", "number": 6})
    assert session.dropped_rows == {5, 6}
    assert apply_action(explorer_data, session, {"do": "restore", "number": 5}).dropped_rows == {6}


def test_selecting_again_and_restoring_the_row_returns_to_the_first_selection(explorer_data, example):
    first = int(example.selection.indices[0])
    session = reselect(explorer_data, apply_action(explorer_data, Session(), {"do": "drop", "number": first}))
    assert session.mode == "before"
    assert first not in session.current_selection(explorer_data).indices
    back = reselect(explorer_data, apply_action(explorer_data, session, {"do": "restore", "number": first}))
    assert back.current_selection(explorer_data) is example.selection
    assert back.mode == "rank"


def test_the_session_says_why_selecting_again_failed(bare, explorer_data):
    session = reselect(bare, Session(dropped_rows=frozenset([1])))
    assert "--store" in session.error
    assert session.new_selection is None
    assert "rows are left" in reselect(explorer_data, Session(dropped_rows=frozenset([1])), 500).error
    assert "at least 1" in reselect(explorer_data, Session(dropped_rows=frozenset([1])), -2).error


def test_filters_match_picks_by_source_text_and_gain(explorer_data, example):
    selection = example.selection
    assert matching_picks(selection, Filters()) == list(range(len(selection)))
    sums = matching_picks(selection, Filters(groups=("sums",)))
    assert [selection.dataset[rank]["task"] for rank in sums] == ["sums"] * len(sums)
    words = matching_picks(selection, Filters(text="ABOUT poems"))
    assert words == [rank for rank in range(len(selection)) if selection.dataset[rank]["task"] == "poems"]
    assert matching_picks(selection, Filters(text="Answer number")) == list(range(len(selection)))
    strong = matching_picks(selection, Filters(gain=0.5))
    assert all(selection.gains[rank] >= 0.5 * selection.gains.max() for rank in strong)
    assert 0 < len(strong) < len(selection)
    session = set_filters(Session(page=3), Filters(text="x"))
    assert (session.page, session.filters.text) == (0, "x")


def test_closing_the_card_and_turning_pages(explorer_data):
    session = apply_action(explorer_data, Session(), {"do": "show", "kind": "pick", "number": 2})
    assert apply_action(explorer_data, session, {"do": "close", "number": 0}).point is None
    assert apply_action(explorer_data, session, {"do": "hits_page", "number": 3}).hits_page == 3
    assert apply_action(explorer_data, session, {"do": "hits_page", "number": -3}).hits_page == 0
    assert set_filters(Session(hits_page=3), Filters()).hits_page == 0


def test_weights_of_targets_change_the_next_selection(explorer_data, example):
    session = weigh_target(explorer_data, Session(target=1), 8.0)
    assert (session.weights, session.is_pending) == ({1: 8.0}, True)
    for weight in (0.0, -1.0, 1e9, float("nan")):
        assert weigh_target(explorer_data, session, weight).weights == {1: 8.0}
    assert weigh_target(explorer_data, Session(), 8.0).weights == {}
    again = reselect(explorer_data, session)
    assert not again.is_pending
    after, before = again.current_selection(explorer_data), example.selection
    assert after.record.weights_of_targets == [1.0, 8.0, 1.0, 1.0, 1.0, 1.0]
    assert after.target_variance[-1, 1] < before.target_variance[-1, 1]
    rows = select_rows(
        example.pool_features,
        example.target_features,
        30,
        acquisition=before.record.acquisition(),
        kernel=before.record.kernel(),
        standardize=before.record.standardization(),
        target_weights=[1.0, 8.0, 1.0, 1.0, 1.0, 1.0],
    )
    assert after.indices.tolist() == rows.indices.tolist()
    # With the weight that it had before, there is nothing to select again for.
    back = reselect(explorer_data, weigh_target(explorer_data, again, 1.0))
    assert back.current_selection(explorer_data) is before
