"""`quality` and `target_weights` from columns: `Selector`, the record, extending and selecting again, what is said."""

from __future__ import annotations

import dataclasses
import html

import numpy as np
import pytest
from datasets import Dataset

from itl_hf import Selection, SelectionRecord, Selector, select_rows
from itl_hf.hub.card import settings_table
from itl_hf.hub.reproduce import select_arguments
from itl_hf.selection.reselect import reselect
from tests.selection.test_selector import POOL, TARGETS, CharacterCounts

QUALITY = [round(0.05 + 0.045 * (7 * row % 20), 3) for row in range(20)]
WEIGHTED_POOL = [{**row, "score": quality} for row, quality in zip(POOL, QUALITY, strict=True)]
WEIGHTED_TARGETS = [{**row, "share": share} for row, share in zip(TARGETS, (3, 0.5), strict=True)]
COLUMNS = {"quality": "score", "target_weights": "share"}


@pytest.fixture(scope="module")
def selection():
    return Selector(CharacterCounts(), noise_std=1.0).select(WEIGHTED_POOL, WEIGHTED_TARGETS, 6, **COLUMNS)


def features():
    return CharacterCounts().embed(POOL), CharacterCounts().embed(TARGETS)


def test_columns_are_the_numbers_of_select_rows(selection):
    rows = select_rows(*features(), 6, noise_std=1.0, quality=QUALITY, target_weights=[3, 0.5])
    assert selection.indices.tolist() == rows.indices.tolist()
    assert selection.gains.tolist() == rows.gains.tolist()
    numbers = Selector(CharacterCounts(), noise_std=1.0).select(
        POOL, TARGETS, 6, quality=np.array(QUALITY), target_weights=[3, 0.5]
    )
    assert numbers.indices.tolist() == rows.indices.tolist()
    plain = Selector(CharacterCounts(), noise_std=1.0).select(POOL, TARGETS, 6)
    assert plain.indices.tolist() != rows.indices.tolist()
    assert plain.record.quality is plain.record.target_weights is None


def test_the_record_says_what_was_used(selection, tmp_path):
    record = selection.record
    assert record.quality == {"smallest": 0.05, "mean": pytest.approx(np.mean(QUALITY)), "largest": max(QUALITY),
                              "column": "score"}  # fmt: skip
    assert record.target_weights == {"smallest": 0.5, "mean": 1.75, "largest": 3.0, "values": [3.0, 0.5],
                                     "column": "share"}  # fmt: skip
    selection.save(tmp_path / "saved")
    assert Selection.load(tmp_path / "saved").record == record
    assert SelectionRecord.from_json(record.to_json()) == record


def test_diagnosis_counts_targets_by_weight_and_says_so(selection):
    diagnosis = selection.diagnose()
    qualities, weights = "0.05 to 0.905, mean 0.478", "0.5 to 3, mean 1.75"
    said = f"Rows count by their quality ({qualities}) and targets count by their weights ({weights})."
    assert said in str(diagnosis)
    variance = selection.target_variance @ [3, 0.5]
    assert diagnosis.left == pytest.approx(variance[-1] / variance[0])
    assert diagnosis.whole_pool == pytest.approx(selection.whole_pool @ [3, 0.5] / variance[0])
    assert f"left {diagnosis.left:.0%}" in repr(selection)
    assert (selection.whole_pool <= selection.target_variance[-1] + 1e-9).all()


def test_card_and_script_repeat_the_columns(selection):
    settings = dict(settings_table(selection.record))
    assert html.unescape(settings["quality of the rows"]) == "column score: 0.05 to 0.905, mean 0.478"
    assert html.unescape(settings["weights of the targets"]) == "column share: 0.5 to 3, mean 1.75"
    assert select_arguments(selection.record)[:2] == ["quality='score',", "target_weights='share',"]
    by_numbers = dataclasses.replace(
        selection.record, quality={"smallest": 0.1, "mean": 0.5, "largest": 1}, target_weights={"values": [3, 0.5]}
    )
    lines = select_arguments(by_numbers)[:2]
    assert lines == ["quality=...,  # a number for each row of the pool", "target_weights=[3.0, 0.5],"]


def test_extending_is_one_longer_selection(selection):
    longer = Selector(CharacterCounts(), noise_std=1.0).select(WEIGHTED_POOL, WEIGHTED_TARGETS, 10, **COLUMNS)
    extended = selection.extend(4)
    assert extended.indices.tolist() == longer.indices.tolist()
    np.testing.assert_allclose(extended.target_variance, longer.target_variance)
    assert extended.record.quality == longer.record.quality


def test_selecting_again_keeps_quality_and_weights(selection):
    pool = Dataset.from_list(WEIGHTED_POOL)
    again = reselect(selection.record, pool, selection.targets, *features(), 6)
    assert again.indices.tolist() == selection.indices.tolist()
    assert again.record.quality == selection.record.quality
    assert again.record.target_weights == selection.record.target_weights
    by_numbers = Selector(CharacterCounts(), noise_std=1.0).select(POOL, TARGETS, 6, target_weights=[3, 0.5])
    again = reselect(by_numbers.record, pool, by_numbers.targets, *features(), 6)
    assert again.indices.tolist() == by_numbers.indices.tolist()
    no_column = Selector(CharacterCounts(), noise_std=1.0).select(POOL, TARGETS, 6, quality=QUALITY)
    with pytest.raises(ValueError, match="quality was given as numbers, which the record does not hold"):
        reselect(no_column.record, pool, no_column.targets, *features(), 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": "stars"}, "quality: no column 'stars' in the pool; its columns are .*'score'"),
        ({"target_weights": "score"}, "target_weights: no column 'score' in the targets; its columns are .*'share'"),
        ({"quality": "task"}, "quality: row 0 holds 'apple', which is no number"),
        ({"quality": [2.0] * 20}, "quality: row 0 has 2"),
    ],
)
def test_a_wrong_column_is_refused_before_the_model_runs(options, message):
    embedder = CharacterCounts()
    with pytest.raises(ValueError, match=message):
        Selector(embedder).select(WEIGHTED_POOL, WEIGHTED_TARGETS, 3, **options)
    with pytest.raises(ValueError, match="'max_similarity' has no use for target_weights"):
        Selector(embedder, "max_similarity").select(WEIGHTED_POOL, WEIGHTED_TARGETS, 3, target_weights="share")
    assert embedder.embedded == 0
