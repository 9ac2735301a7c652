"""The paired comparison of the page."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.benchmarks.fine_tuning.picking import _resolve
from recipes.benchmarks.ten_pools.tables import Comparison, comparison_table


def test_a_comparison_is_paired_over_common_sets():
    rng = np.random.default_rng(0)
    mine, other = rng.normal(size=(2, 9))
    values = {number: float(value) for number, value in enumerate(mine)}
    reference = {number: float(value) for number, value in enumerate(other) if number < 7}
    result = Comparison.of(values, reference, lower_is_better=True)
    gaps = (mine - other)[:7]
    assert result.mean == pytest.approx(mine.mean())
    assert result.difference == pytest.approx(gaps.mean())
    assert result.error == pytest.approx(gaps.std(ddof=1) / 7**0.5)
    assert (result.better, result.worse) == ((gaps > 0).sum(), (gaps < 0).sum())
    opposite = Comparison.of(values, reference, lower_is_better=False)
    assert (opposite.better, opposite.worse) == (result.worse, result.better)


def test_without_common_sets_there_is_only_a_mean():
    assert str(Comparison.of({0: 0.5}, {}, True)) == "0.500"
    assert str(Comparison.of({0: 0.5, 1: 1.0}, {1: 0.75}, True)) == "0.750 (+0.250; 1/0)"


def test_the_best_method_is_first():
    values = {"generated": {"itl": {0: 1.0, 1: 2.0}, "random": {0: 3.0, 1: 4.0}, "best": {0: 0.5, 1: 1.0}}}
    rows = comparison_table(values, lower_is_better=True).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["best", "**itl**", "random"]
    assert rows[0] == "| method | generated (2 sets) |"
    assert "0.750 (-0.750 ± 0.250; 0/2)" in rows[2]
    rows = comparison_table(values, lower_is_better=False).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["random", "**itl**", "best"]


@pytest.mark.parametrize(
    ("value", "number"), [("1.5n", 144), ("2n", 192), ("n", "n"), ("auto", "auto"), (7, 7), ("1.5nn", "1.5nn")]
)
def test_sizes_relative_to_the_budget(value, number):
    assert _resolve(value, 96) == number
