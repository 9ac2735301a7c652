"""The page of the benchmark, from synthetic records."""

from __future__ import annotations

from recipes.benchmarks.fine_tuning.tables import difference, page

YARDSTICKS = {"relevant": 1.0, "covered": 4, "originals": 8, "score": 1.0, "spoilt": 0, "select_seconds": 0.1}


def cell(features, targets, loss, method="itl", seed=0):
    where = {"features": features, "variant": "as-is", "targets": targets, "method": method, "picks": 8, "seed": seed}
    return where | {"loss": loss, "weighted_loss": loss, "exact": 0.5} | YARDSTICKS


def test_features_are_compared_on_the_cells_that_both_have():
    cells = [cell("hidden-states", "a", 2.0), cell("hidden-states", "b", 3.0), cell("hidden-states", "b", 9.0, seed=1)]
    cells += [cell("minilm", "a", 2.5), cell("minilm", "b", 3.1)]
    text = page({"cells": cells, "tasks": []})
    assert "| **itl** | minilm | 2.800 (+0.300 ± 0.200) |" in text


def test_pools_without_results_of_itl_have_no_column():
    cells = [cell("hidden-states", "a", 2.0), cell("hidden-states", "a", 2.5, method="random")]
    other = cell("hidden-states", "a", 2.5, method="random") | {"variant": "few"}
    assert "| method | as-is | cells |" in page({"cells": [*cells, other], "tasks": []})
    assert "| method | few | cells |" in page({"cells": [other], "tasks": []})


def test_one_kind_of_features_gives_no_comparison():
    assert "## Features" not in page({"cells": [cell("hidden-states", "a", 2.0)], "tasks": []})


def test_a_difference_is_averaged_over_seeds_before_its_error_over_sets():
    mine = {("a", 0.0): 1.0, ("a", 1.0): 3.0, ("b", 0.0): 4.0, ("c", 0.0): 99.0}
    other = {("a", 0.0): 0.0, ("a", 1.0): 0.0, ("b", 0.0): 0.0}
    assert difference(mine, other) == (3.0, 1.0)
    assert difference(mine, {}) is None
