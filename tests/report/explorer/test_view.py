"""What the page shows: complete, in words, and harmless whatever the data holds."""

from __future__ import annotations

import base64
import dataclasses
import json
import re

import numpy as np
import pytest
from datasets import Dataset

from itl_hf.report.explorer import drawing, gather
from itl_hf.report.explorer.nearest_picks import nearest_picks
from itl_hf.report.explorer.session import Filters, Session, apply_action, reselect
from itl_hf.report.explorer.view import NO_TEXT, summary, target_names, view
from itl_hf.selection.select_rows import correlation, select_rows
from tests.report.explorer.made import make
from tests.report.test_page import HOSTILE, Page

PARTS = ("card", "target", "picks", "dropped", "compared")


def shown(explorer_data, session=None, **changes):
    return view(explorer_data, dataclasses.replace(session or Session(), **changes))


def test_the_summary_says_what_was_selected(explorer_data):
    text = Page(summary(explorer_data)).text
    assert "30 rows were picked by ITL from a pool of 120, for 6 target prompts" in text


def test_all_html_is_well_formed(explorer_data):
    session = reselect(explorer_data, Session(dropped_rows=frozenset(explorer_data.selection.indices[:2].tolist())))
    for state in (Session(), session, dataclasses.replace(session, mode="other", target=1, point=("other", 0))):
        for name in PARTS:
            Page(getattr(view(explorer_data, state), name))


def test_cards(explorer_data, made, bare):
    pick = Page(shown(explorer_data, point=("pick", 0)).card).text
    row = int(made.selection.indices[0])
    assert made.pool[row]["prompt"] in pick
    assert made.pool[row]["completion"] in pick
    assert f"Drop row {row}" in pick
    assert (
        f"Restore row {row}" in Page(shown(explorer_data, point=("pick", 0), dropped_rows=frozenset([row])).card).text
    )
    stranger = next(row for row in range(120) if row not in made.selection.indices)
    assert made.pool[stranger]["prompt"] in Page(shown(explorer_data, point=("pool", stranger)).card).text
    assert NO_TEXT in Page(shown(bare, point=("pool", stranger)).card).text
    # A point of the pool that was picked is the pick.
    assert "Pick 1" in Page(shown(bare, point=("pool", row)).card).text
    assert made.targets[3]["prompt"] in Page(shown(explorer_data, point=("target", 3)).card).text


def test_a_target_shows_its_nearest_picks_by_the_kernel(explorer_data, made):
    rows = select_rows(made.pool_features, made.target_features, 30)
    wanted = np.argsort(-correlation(rows.pool.rows(rows.indices.tolist()), rows.gp)[:, 2].numpy())[:8]
    assert [place for place, _ in nearest_picks(explorer_data, made.selection, 2)] == wanted.tolist()
    text = Page(shown(explorer_data, target=2).target).text
    assert "Nearest picks" in text
    assert "no row of this pool can remove it" in text


def test_without_features_a_target_shows_the_picks_that_serve_it(bare, made):
    served = [place for place, target in enumerate(made.selection.dataset["itl_nearest_target"][:]) if target == 2]
    assert {place for place, _ in nearest_picks(bare, made.selection, 2, 99)} == set(served)
    assert "Picks that have it as their nearest target" in shown(bare, target=2).target


def test_the_list_has_pages(explorer_data):
    assert "Shown: 1 to 20" in shown(explorer_data).picks
    assert "Shown: 21 to 30" in shown(explorer_data, page=1).picks
    assert "Shown: 21 to 30" in shown(explorer_data, page=99).picks
    assert "No pick passes these filters" in shown(explorer_data, filters=Filters(text="zebra")).picks


def test_the_comparison_needs_something_to_compare_with(explorer_data, bare):
    assert "Nothing to compare with" in shown(bare).comparison
    assert "Choose a comparison" in shown(explorer_data).comparison
    assert "only in cosine" in Page(shown(explorer_data, mode="other").comparison).text


def test_selecting_again_is_reported(explorer_data):
    dropped_rows = frozenset(explorer_data.selection.indices[:2].tolist())
    assert "not yet selected without them" in shown(explorer_data, dropped_rows=dropped_rows).dropped_rows
    text = Page(view(explorer_data, reselect(explorer_data, Session(dropped_rows=dropped_rows))).dropped_rows).text
    assert re.search(r"Selected again: \d+ of 30 picks are new", text)
    assert "--store" in view(gather(explorer_data.selection), Session()).dropped_rows


@pytest.mark.parametrize("hostile", [*HOSTILE, "![x](http://example.com/x.png) \u202egnp.exe ${alert(1)} {{value}}"])
def test_hostile_text_is_only_text(hostile, made):
    def tags(text):
        rows = [{**row, "prompt": text, "task": text} for row in made.selection.dataset]
        selection = dataclasses.replace(
            made.selection, dataset=Dataset.from_list(rows), targets=Dataset.from_list([{"prompt": text}] * 6)
        )
        explorer_data = gather(selection, name=text, compare=selection, compare_name=text)
        state = dataclasses.replace(Session(), mode="other", point=("pick", 0), target=0, error=text)
        pages = [Page(getattr(view(explorer_data, state), name)) for name in PARTS]
        for page in pages:
            assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", "".join(page.text for page in pages))
        return [[tag for tag, _ in page.tags] for page in pages]

    assert tags(hostile) == tags("harmless")


def test_hidden_characters_are_shown_in_choices_and_tips(tmp_path):
    one = make(tmp_path, target_prompts={0: "a\u202eb"})
    assert target_names(gather(one.selection))[0] == "0: a\u27e8U+202E\u27e9b"
    assert "\u27e8U+202E\u27e9" in drawing.points(gather(one.selection))["targets"][0][2]


def test_points_are_where_the_layout_has_them(explorer_data, made):
    points = drawing.points(explorer_data)
    steps = np.frombuffer(base64.b64decode(points["pool"]), dtype="<u2").reshape(-1, 2)
    assert steps.shape == (120, 2)
    assert points["rows"] is None
    layout = made.selection.layout
    # One straight line maps steps to coordinates.
    for axis in (0, 1):
        slope, start = np.polyfit(steps[:, axis], layout.pool[:, axis], 1)
        np.testing.assert_allclose(slope * steps[:, axis] + start, layout.pool[:, axis], atol=2 * slope)
        targets = np.array([target[axis] for target in points["targets"]])
        np.testing.assert_allclose(slope * targets + start, layout.targets[:, axis], atol=2 * slope)


def test_marks_say_what_is_dropped_filtered_and_shared(explorer_data, made):
    row = int(made.selection.indices[1])
    session = Session(dropped_rows=frozenset([row]), filters=Filters(groups=("sums",)), mode="other")
    marks = json.loads(view(explorer_data, session).marks)
    states = [pick[4] for pick in marks["picks"]]
    theirs = set(explorer_data.other.indices.tolist())
    for place, state in enumerate(states):
        assert bool(state & 1) == (made.selection.dataset[place]["task"] == "sums")
        assert bool(state & 2) == (place == 1)
        assert bool(state & 4) == (int(made.selection.indices[place]) in theirs)
    assert len(marks["others"]) == len(theirs - set(made.selection.indices.tolist()))
    assert marks["names"] == ["mine", "cosine"]


def test_the_curve_ends_at_what_is_left_and_has_its_floor(explorer_data, made):
    curve = drawing.curve(made.selection, 1)
    variance = made.selection.target_variance
    assert len(curve["target"]) == len(curve["mean"]) == 31
    assert curve["target"][-1] == pytest.approx(variance[-1, 1] / variance[0, 1], abs=1e-4)
    assert curve["mean"][-1] == pytest.approx(variance[-1].sum() / variance[0].sum(), abs=1e-4)
    assert curve["floor"] == pytest.approx(made.selection.irreducible[1] / variance[0, 1], abs=1e-4)
    assert apply_action(explorer_data, Session(), {"do": "target", "number": 1}).target == 1
