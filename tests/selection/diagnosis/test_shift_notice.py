"""Targets that differ from the pool as a whole: said in words, without their text, and without other picks."""

from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from itl_hf import Embedder, Selection, Selector, select_rows
from itl_hf.gp.shift import FEWEST_TARGETS, Shift
from itl_hf.hub.card import Publication, write_card
from itl_hf.report import page
from itl_hf.report.page import write_report
from itl_hf.selection.diagnosis.shift_notice import (
    FEW_GROUPS,
    SHIFTED,
    ShiftRecord,
    is_shifted,
    shift_text,
)
from itl_hf.selection.diagnosis.text_contrast import TextContrast, common_beginning

FRAME = "<b>TOP SECRET</b> **prompt** | "


class Table(Embedder):
    """Features of clusters; rows whose text begins with `FRAME` are moved in one direction."""

    dimension = 24

    def fingerprint(self):
        return {"embedder": "table"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        rng = np.random.default_rng(0)
        centres, direction = rng.normal(size=(6, self.dimension)), rng.normal(size=self.dimension)
        features = []
        for row in rows:
            number = int(row["text"].removeprefix(FRAME).split()[-1])
            noise = np.random.default_rng(number).normal(size=self.dimension)
            features.append(centres[number % 6] + 0.4 * noise + row["text"].startswith(FRAME) * direction)
        return torch.tensor(np.array(features), dtype=torch.float32)


POOL = [f"row number {number}" for number in range(120)]
ORDINARY = [f"row number {number}" for number in range(1000, 1024)]
SHIFTED_TARGETS = [FRAME + text for text in ORDINARY]


@pytest.fixture(scope="module")
def shifted():
    return Selector(Table()).select(POOL, SHIFTED_TARGETS, 12)


def kinds(selection):
    return [notice.kind for notice in selection.diagnose().notices]


def test_shifted_targets_are_named_and_ordinary_ones_are_not(shifted):
    assert "shift" in kinds(shifted)
    ordinary = Selector(Table()).select(POOL, ORDINARY, 12)
    assert "shift" not in kinds(ordinary)
    assert ordinary.record.shift["targets"] == 24


def test_the_notice_says_what_was_measured_and_what_differs(shifted):
    share = shifted.record.shift["common_share"]
    text = str(shifted.diagnose())
    assert f"Note: The 24 targets differ from the pool as a whole: {share:.0%} of their squared distance" in text
    assert "another language, template, system prompt or length?" in text
    assert "the targets' prompts have 46 characters in the median, the pool's 13" in text
    assert f"90% of the targets or more begin with the same {len(FRAME + 'row number 10')} characters, and 0%" in text


def test_the_diagnosis_never_changes_the_picks(shifted):
    embedder = Table()
    pool, targets = ([{"text": text} for text in texts] for texts in (POOL, SHIFTED_TARGETS))
    picks = select_rows(embedder.embed(pool), embedder.embed(targets), 12).indices
    assert shifted.indices.tolist() == picks.tolist()


def test_fewer_targets_than_can_be_compared_say_nothing():
    selection = Selector(Table()).select(POOL, SHIFTED_TARGETS[: FEWEST_TARGETS - 1], 4)
    assert selection.record.shift is None
    assert "shift" not in kinds(selection)


def test_it_is_saved_and_older_selections_have_none(shifted, tmp_path):
    loaded = Selection.load(shifted.save(tmp_path / "selected"))
    assert loaded.diagnose().notices == shifted.diagnose().notices
    older = dataclasses.replace(shifted, record=dataclasses.replace(shifted.record, shift=None))
    assert "shift" not in kinds(older)


def test_report_and_card_say_it_without_the_targets_text(shifted, tmp_path):
    blank = dict.fromkeys(("map", "variance", "gain"), Markup("<svg></svg>"))
    with mock.patch.object(page, "figures", return_value=blank):
        html = write_report(shifted, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Targets unlike the pool" in html
    assert "differ from the pool as a whole" in html
    assert "<b>TOP" not in html
    card = write_card(shifted, Publication("me/subset"))
    assert "differ from the pool as a whole" in card
    assert "SECRET" not in card
    assert "SECRET" not in str(shifted.record.to_json())


def shift(lower_bound, groups):
    return Shift(targets=24, common_share=lower_bound + 0.2, standard_error=0.1, pool_share=0.0, groups=groups)


@pytest.mark.parametrize(
    ("lower_bound", "groups", "reach", "expected"),
    [
        (SHIFTED + 0.01, FEW_GROUPS, 0.1, True),
        (SHIFTED - 0.01, FEW_GROUPS, 0.9, False),
        (SHIFTED - 0.01, FEW_GROUPS - 0.1, 0.9, False),
        (SHIFTED + 0.01, FEW_GROUPS - 0.1, 0.9, True),
        (SHIFTED + 0.5, FEW_GROUPS - 0.1, 0.7, False),  # no row is near: the pool may lack their kind
    ],
)
def test_the_threshold_and_the_nearness_that_one_kind_of_targets_needs(lower_bound, groups, reach, expected):
    assert is_shifted(shift(lower_bound, groups), reach) is expected


def test_the_pools_own_share_counts_against_it():
    assert dataclasses.replace(shift(0.1, 5), pool_share=0.1).lower_bound == pytest.approx(0)
    assert dataclasses.replace(shift(0.1, 5), pool_share=-0.1).lower_bound == pytest.approx(0.1)


def test_a_record_survives_json(shifted):
    record = ShiftRecord.from_json(shifted.record.shift)
    assert ShiftRecord.from_json(record.to_json()) == record
    assert ShiftRecord.from_json(None) is None
    assert shift_text(shifted) is not None


@given(st.lists(st.text(alphabet="ab", max_size=6), min_size=1, max_size=25))
def test_the_common_beginning_is_the_longest_that_nine_in_ten_have(texts):
    beginnings = {text[:length] for text in texts for length in range(len(text) + 1)}
    shared = [one for one in beginnings if sum(text.startswith(one) for text in texts) >= 0.9 * len(texts)]
    assert len(common_beginning(texts)) == len(max(shared, key=len))
    assert common_beginning(texts) in shared


def test_texts_are_compared_by_length_letters_and_frame():
    contrast = TextContrast.from_texts(["ΑΒ γ: end of it", "ΑΒ δ: end of it"], ["plain words of the pool", "More."])
    assert (contrast.target_length, contrast.pool_length) == (15, 14)
    assert contrast.target_non_ascii == pytest.approx(3 / 10)
    assert contrast.pool_non_ascii == 0
    assert contrast.target_capitals == pytest.approx(2 / 10)
    assert contrast.pool_capitals == pytest.approx(1 / 23)
    assert (contrast.beginning, contrast.pool_beginning) == (3, 0)
    assert (contrast.ending, contrast.pool_ending) == (len(": end of it"), 0)
    assert contrast.differences() == [
        "30% of the targets' letters are outside a to z, and 0% of the pool's",
        "20% of the targets' letters are capitals, and 4% of the pool's",
        "90% of the targets or more end with the same 11 characters, and 0% of the pool's rows do",
    ]


@pytest.mark.parametrize("texts", [[""], ["1 + 1"], ["same"] * 3])
def test_the_same_texts_differ_in_nothing(texts):
    assert TextContrast.from_texts(texts, texts).differences() == []
