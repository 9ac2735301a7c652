"""The verdict and the next steps follow from the targets' verdicts and the notices."""

from __future__ import annotations

import pytest

from itl_hf.selection.diagnosis.diagnosis import Diagnosis
from itl_hf.selection.diagnosis.notices import Notice
from itl_hf.selection.diagnosis.verdict import next_steps, verdict
from tests.selection.diagnosis.test_diagnosis import CASES, target

TRAIN = "Train on the picked rows: selection.dataset, or attach(trainer, selection) where a script exists."


def diagnosis_of(*kinds, notices=(), rows=10):
    return Diagnosis(tuple(target(number, **CASES[kind]) for number, kind in enumerate(kinds)), 5, 10, rows, notices)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["taught"], "The picks teach the target: 50% of its variance is left"),
        (["taught"] * 3, "The picks teach all 3 targets: 50% of their variance is left"),
        (["taught", "empty"], "The picks teach the target"),
        (["taught", "exhausted"], "The picks teach 1 of 2 targets; 1 has little more to gain from this pool."),
        (["far"], "The picks do not teach the target: it lies far from every row."),
        (
            ["unteachable", "far", "far", "improvable", "taught"],
            "The picks teach 1 of 5 targets; this pool cannot teach 1, 2 lie far from every row, "
            "1 would gain from more picks.",
        ),
    ],
)
def test_the_verdict_counts_the_targets_by_what_became_of_them(kinds, words):
    assert verdict(diagnosis_of(*kinds)).startswith(words)


def test_upper_bounds_are_named_so():
    assert verdict(diagnosis_of("taught", rows=9)).endswith("would leave at most 20%.")


def test_each_problem_has_its_step_and_a_good_selection_is_trained_on():
    assert next_steps(diagnosis_of("taught")) == [TRAIN]
    steps = next_steps(diagnosis_of("unteachable", "far", "exhausted", "improvable", "improvable"))
    assert [step.partition(":")[0] for step in steps] == [
        "Add rows like targets 0, 1 to the pool",
        "For target 2, add other rows to the pool",
        "Pick more rows",
        "Train on the picked rows",
    ]
    assert "targets 3, 4" in steps[2]


def test_copies_of_targets_come_first_and_are_not_trained_on():
    steps = next_steps(diagnosis_of("taught", notices=(Notice("contamination", "words", (3,), (0,)),)))
    assert [step.partition(":")[0] for step in steps] == ["Select again without a row that is a copy of targets"]
    # A copy in the pool that was not picked does no harm.
    assert next_steps(diagnosis_of("taught", notices=(Notice("contamination", "words", (), (0,)),))) == [TRAIN]


def test_picks_that_give_nothing_are_left_out_unless_more_would_help():
    notices = (Notice("negligible", "words", (3, 4)),)
    assert "the first 3 of the 5 picks" in next_steps(diagnosis_of("taught", notices=notices))[0]
    assert not any("Fewer" in step for step in next_steps(diagnosis_of("improvable", notices=notices)))


def test_many_targets_are_counted():
    assert "targets 0, 1, 2, 3, 4, 5, 6, 7 and 4 more" in next_steps(diagnosis_of(*["improvable"] * 12))[0]
