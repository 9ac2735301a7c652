"""Colours of the map by a column."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np

from itl_hf.report.explorer.column_colors import MAX_COLORS, NO_COLOR, RAMP_STEPS, colored_columns, coloring
from itl_hf.report.explorer.session import Session
from itl_hf.report.explorer.view import view


def pool_codes(colors):
    return np.frombuffer(base64.b64decode(colors["pool"]), dtype=np.uint8)


def test_columns_of_names_and_numbers_are_offered_and_texts_are_not(explorer_data, bare):
    assert [name for _, name in colored_columns(explorer_data)] == [
        "task",
        "cost",
        "itl_gain",
        "itl_similarity",
        "itl_nearest_target",
    ]
    assert ("task", "task") in colored_columns(bare)


def test_every_row_has_the_colour_of_its_name(explorer_data, example):
    colors = coloring(explorer_data, example.selection, "task")
    names = [name for name, _ in colors["names"]]
    assert [names[code] for code in colors["picks"]] == example.selection.dataset["task"][:]
    rows = example.selection.layout.pool_rows
    assert [names[code] for code in pool_codes(colors)] == example.pool.select(rows)["task"][:]
    assert sum(count for _, count in colors["names"]) == len(example.selection)


def test_rare_and_missing_names_have_no_colour(explorer_data, example):
    names = [None, *(f"name {number % 20}" for number in range(119))]
    pool = example.pool.remove_columns("task").add_column("task", names)
    picks = pool.select(example.selection.indices)
    selection = dataclasses.replace(example.selection, dataset=picks)
    data = dataclasses.replace(explorer_data, selection=selection, pool=pool)
    colors = coloring(data, selection, "task")
    assert len(colors["names"]) == MAX_COLORS
    assert colors["others"] == 20 - MAX_COLORS
    shown = {name for name, _ in colors["names"]}
    expected_codes = [names[row] in shown for row in selection.layout.pool_rows]
    assert ((pool_codes(colors) != NO_COLOR) == expected_codes).all()


def test_numbers_are_on_a_ramp_in_their_order(explorer_data, example):
    colors = coloring(explorer_data, example.selection, "cost")
    costs = np.asarray(example.pool["cost"])[example.selection.layout.pool_rows]
    codes = pool_codes(colors).astype(int)
    assert colors["range"] == ["1", "7"]
    assert (codes[costs == 1] == 0).all()
    assert (codes[costs == 7] == RAMP_STEPS).all()
    assert (np.diff(codes[np.argsort(costs, kind="stable")]) >= 0).all()


def test_columns_of_the_picks_alone_leave_the_pool_without_colour(explorer_data, bare):
    assert coloring(explorer_data, explorer_data.selection, "itl_gain")["pool"] is None
    assert coloring(bare, bare.selection, "task")["pool"] is None


def test_the_view_has_colours_in_the_mode_of_a_column_only(explorer_data):
    assert view(explorer_data, Session(column="task")).colors == "null"
    assert '"label":"task"' in view(explorer_data, Session(mode="column", column="task")).colors
