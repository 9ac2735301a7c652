"""The page shows all facts, and text from the data cannot become HTML."""

from __future__ import annotations

import base64
import dataclasses
import json
import re

import numpy as np
import pytest
from datasets import Dataset

from itl_hf.report.explorer import drawing, gather
from itl_hf.report.explorer.cards import NO_TEXT
from itl_hf.report.explorer.nearest_picks import nearest_picks
from itl_hf.report.explorer.session import Filters, Session, apply_action, reselect
from itl_hf.report.explorer.view import summary, target_names, view
from itl_hf.selection.row_selection import correlation
from itl_hf.selection.select_rows import select_rows
from tests.report.explorer.example import make_example
from tests.report.test_page import HOSTILE, Page

PARTS = ("card", "target", "picks", "hits", "dropped_rows", "comparison")


def view_of(explorer_data, session=None, **changes):
    return view(explorer_data, dataclasses.replace(session or Session(), **changes))


def test_the_summary_says_what_was_selected(explorer_data):
    text = Page(summary(explorer_data)).text
    assert "30 rows picked by ITL from a pool of 120 for 6 target prompts, by the features of by-hand" in text


@pytest.mark.parametrize(("acquisition", "unit"), [("itl", True), ("vtl", False)])
def test_only_information_is_given_in_nats(explorer_data, acquisition, unit):
    record = dataclasses.replace(explorer_data.selection.record, acquisition_name=acquisition)
    data = dataclasses.replace(explorer_data, selection=dataclasses.replace(explorer_data.selection, record=record))
    parts = view_of(data, point=("pick", 0))
    for text in (summary(data), parts.card, parts.picks):
        assert ("nats" in text) is unit


def test_all_html_is_well_formed(explorer_data):
    session = reselect(explorer_data, Session(dropped_rows=frozenset(explorer_data.selection.indices[:2].tolist())))
    for state in (Session(), session, dataclasses.replace(session, mode="other", target=1, point=("other", 0))):
        for name in PARTS:
            Page(getattr(view(explorer_data, state), name))


def test_the_card_shows_the_text_of_the_clicked_point(explorer_data, example, bare):
    pick = Page(view_of(explorer_data, point=("pick", 0)).card).text
    row = int(example.selection.indices[0])
    assert example.pool[row]["prompt"] in pick
    assert example.pool[row]["completion"] in pick
    assert f"Drop row {row}" in pick
    assert (
        f"Restore row {row}" in Page(view_of(explorer_data, point=("pick", 0), dropped_rows=frozenset([row])).card).text
    )
    unpicked_row = next(row for row in range(120) if row not in example.selection.indices)
    assert example.pool[unpicked_row]["prompt"] in Page(view_of(explorer_data, point=("pool", unpicked_row)).card).text
    assert NO_TEXT in Page(view_of(bare, point=("pool", unpicked_row)).card).text
    # For a picked row, a click on its point of the pool shows the pick.
    assert "Pick 1" in Page(view_of(bare, point=("pool", row)).card).text
    assert example.targets[3]["prompt"] in Page(view_of(explorer_data, point=("target", 3)).card).text


def test_a_target_shows_its_nearest_picks_by_the_kernel(explorer_data, example):
    rows = select_rows(example.pool_features, example.target_features, 30)
    expected_ranks = np.argsort(-correlation(rows.pool.rows(rows.indices.tolist()), rows.gp)[:, 2].numpy())[:8]
    assert [rank for rank, _ in nearest_picks(explorer_data, example.selection, 2)] == expected_ranks.tolist()
    text = Page(view_of(explorer_data, target=2).target).text
    assert "Nearest picks" in text
    assert "no row of this pool can remove" in text


def test_without_features_a_target_shows_the_picks_whose_nearest_target_it_is(bare, example):
    expected_ranks = [
        rank for rank, target in enumerate(example.selection.dataset["itl_nearest_target"][:]) if target == 2
    ]
    assert {rank for rank, _ in nearest_picks(bare, example.selection, 2, 99)} == set(expected_ranks)
    assert "Picks whose nearest target this is" in view_of(bare, target=2).target


def test_the_list_has_pages(explorer_data):
    assert "Shown: 1 to 20" in view_of(explorer_data).picks
    assert "Shown: 21 to 30" in view_of(explorer_data, page=1).picks
    assert "Shown: 21 to 30" in view_of(explorer_data, page=99).picks
    assert "No pick passes these filters" in view_of(explorer_data, filters=Filters(text="zebra")).picks


def test_the_comparison_needs_something_to_compare_with(explorer_data, bare):
    assert "There is nothing to compare with" in view_of(bare).comparison
    assert "Choose a comparison" in view_of(explorer_data).comparison
    assert "only in cosine" in Page(view_of(explorer_data, mode="other").comparison).text


def test_selecting_again_shows_what_changed(explorer_data):
    dropped_rows = frozenset(explorer_data.selection.indices[:2].tolist())
    assert (
        "the selection has not been made again without them yet"
        in view_of(explorer_data, dropped_rows=dropped_rows).dropped_rows
    )
    text = Page(view(explorer_data, reselect(explorer_data, Session(dropped_rows=dropped_rows))).dropped_rows).text
    assert re.search(r"Selected again: \d+ of 30 picks are new", text)
    assert "--store" in view(gather(explorer_data.selection), Session()).dropped_rows


@pytest.mark.parametrize("hostile", [*HOSTILE, "![x](http://example.com/x.png) \u202egnp.exe ${alert(1)} {{value}}"])
def test_hostile_text_is_only_text(hostile, example):
    def tags(text):
        rows = [{**row, "prompt": text, "task": text} for row in example.selection.dataset]
        selection = dataclasses.replace(
            example.selection, dataset=Dataset.from_list(rows), targets=Dataset.from_list([{"prompt": text}] * 6)
        )
        explorer_data = gather(selection, name=text, compare=selection, compare_name=text)
        state = dataclasses.replace(Session(), mode="other", point=("pick", 0), target=0, error=text)
        pages = [Page(getattr(view(explorer_data, state), name)) for name in PARTS]
        for page in pages:
            assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", "".join(page.text for page in pages))
        return [[tag for tag, _ in page.tags] for page in pages]

    assert tags(hostile) == tags("harmless")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_of_the_pool_is_only_text(hostile, tmp_path):
    def tags(text, folder):
        example = make_example(tmp_path / folder, prompts=dict.fromkeys(range(120), f"{text} words"))
        rows = example.pool.remove_columns("task").add_column(text, [text] * 120)
        data = gather(example.selection, pool=example.pool)
        data = dataclasses.replace(data, pool=rows)
        session = Session(filters=Filters(text=text), point=("pool", _unpicked_row(example)))
        parts = view(data, session)
        pages = [Page(parts.hits), Page(parts.card)]
        assert text in pages[0].text
        assert text in pages[1].text
        for page in pages:
            assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        return [[tag for tag, _ in page.tags] for page in pages]

    assert tags(hostile, "hostile") == tags("harmless", "harmless")


def _unpicked_row(example):
    return next(row for row in range(120) if row not in example.selection.indices)


def test_a_row_that_was_not_picked_shows_its_columns_and_its_nearest_target(explorer_data, example):
    row = _unpicked_row(example)
    page = Page(view_of(explorer_data, point=("pool", row)).card)
    assert example.pool[row]["task"] in page.text
    assert f"cost {example.pool[row]['cost']:g}" in page.text
    rows = select_rows(example.pool_features, example.target_features, 30)
    similarity = correlation(rows.pool.rows([row]), rows.gp)[0].numpy()
    assert f"similarity {similarity.max():.2f} to target {similarity.argmax()}" in page.text
    assert f"show target {similarity.argmax()}" in page.text


def test_the_rows_of_the_pool_that_contain_the_text_are_marked_and_listed(explorer_data, example):
    session = Session(filters=Filters(text="POEMS"))
    parts = view(explorer_data, session)
    rows = [row for row, text in enumerate(example.pool["prompt"]) if "poems" in text]
    marks = json.loads(parts.marks)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(marks["hits"]), dtype=np.uint8), bitorder="little")[:120]
    assert example.selection.layout.pool_rows[bits.astype(bool)].tolist() == rows
    assert marks["num_hits"] == len(rows)
    unpicked_rows = [row for row in rows if row not in example.selection.indices]
    listed_rows = [
        int(attributes["data-number"]) for _, attributes in Page(parts.hits).tags if "data-number" in attributes
    ]
    assert listed_rows == unpicked_rows
    assert json.loads(view_of(explorer_data).marks)["hits"] is None


def test_without_the_pool_a_search_says_what_it_did_not_reach(bare):
    assert "Only the picks were searched" in view_of(bare, filters=Filters(text="poems")).hits
    assert view_of(bare).hits.strip() == ""


def test_pages_of_hits_hold_all_of_them_once(explorer_data, example):
    listed_rows = []
    for page in range(6):
        html = view_of(explorer_data, filters=Filters(text="question"), hits_page=page).hits
        tags = Page(html).tags
        listed_rows += [int(a["data-number"]) for _, a in tags if a.get("data-kind") == "pool"]
    assert listed_rows[:90] == sorted(set(range(120)) - set(example.selection.indices.tolist()))


def test_hidden_characters_are_visible_in_menus_and_tooltips(tmp_path):
    example = make_example(tmp_path, target_prompts={0: "a\u202eb"})
    assert target_names(gather(example.selection))[0] == "0: a\u27e8U+202E\u27e9b"
    assert "\u27e8U+202E\u27e9" in drawing.points(gather(example.selection))["targets"][0][2]


def test_points_have_the_coordinates_of_the_layout(explorer_data, example):
    points = drawing.points(explorer_data)
    steps = np.frombuffer(base64.b64decode(points["pool"]), dtype="<u2").reshape(-1, 2)
    assert steps.shape == (120, 2)
    assert points["rows"] is None
    layout = example.selection.layout
    # Coordinates are a linear function of the steps.
    for axis in (0, 1):
        slope, start = np.polyfit(steps[:, axis], layout.pool[:, axis], 1)
        np.testing.assert_allclose(slope * steps[:, axis] + start, layout.pool[:, axis], atol=2 * slope)
        targets = np.array([target[axis] for target in points["targets"]])
        np.testing.assert_allclose(slope * targets + start, layout.targets[:, axis], atol=2 * slope)


def test_marks_hold_which_picks_are_dropped_listed_and_shared(explorer_data, example):
    row = int(example.selection.indices[1])
    session = Session(dropped_rows=frozenset([row]), filters=Filters(groups=("sums",)), mode="other")
    marks = json.loads(view(explorer_data, session).marks)
    states = [pick[4] for pick in marks["picks"]]
    other_rows = set(explorer_data.other.indices.tolist())
    for rank, state in enumerate(states):
        assert bool(state & 1) == (example.selection.dataset[rank]["task"] == "sums")
        assert bool(state & 2) == (rank == 1)
        assert bool(state & 4) == (int(example.selection.indices[rank]) in other_rows)
    assert len(marks["others"]) == len(other_rows - set(example.selection.indices.tolist()))
    assert marks["names"] == ["mine", "cosine"]


def test_the_curve_ends_at_the_remaining_variance_and_has_the_floor(explorer_data, example):
    curve = drawing.curve(example.selection, 1)
    variance = example.selection.target_variance
    assert len(curve["target"]) == len(curve["mean"]) == 31
    assert curve["target"][-1] == pytest.approx(variance[-1, 1] / variance[0, 1], abs=1e-4)
    assert curve["mean"][-1] == pytest.approx(variance[-1].sum() / variance[0].sum(), abs=1e-4)
    assert curve["floor"] == pytest.approx(example.selection.irreducible[1] / variance[0, 1], abs=1e-4)
    assert apply_action(explorer_data, Session(), {"do": "target", "number": 1}).target == 1
