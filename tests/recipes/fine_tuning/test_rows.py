"""Pools and target sets of the benchmark are disjoint, and every variant has the rows of its description."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS, HELD_OUT, TARGETS_PER_SEED, TEST_SETS, BenchmarkRows
from recipes.benchmarks.fine_tuning.variants import FEW, VARIANTS, variant
from tests.recipes.fine_tuning.conftest import SETS, SIZES, made_rows


def test_no_prompt_is_in_two_of_pool_targets_and_held_out_rows(bench_rows):
    parts = [set(part["prompt"]) for part in (bench_rows.pool, bench_rows.bank, bench_rows.held_out)]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_no_development_task_is_a_test_task():
    sides = [{task for tasks in sets.values() for task in tasks} for sets in (DEVELOPMENT_SETS, TEST_SETS)]
    assert not sides[0] & sides[1]
    assert [len(side) for side in sides] == [24, 24]


def test_seeds_have_different_targets(bench_rows):
    rows_per_seed = [set(bench_rows.target_rows({"double": 24, "first": 3}, seed).tolist()) for seed in range(3)]
    assert [len(rows) for rows in rows_per_seed] == [27] * 3
    assert len(set.union(*rows_per_seed)) == 81
    tasks = bench_rows.bank.select(sorted(rows_per_seed[1]))["task"]
    assert sorted(set(tasks)) == ["double", "first"]


def test_copies_differ_from_their_originals_by_an_edit(bench_rows):
    for number, copy in zip(bench_rows.copy_originals.tolist(), bench_rows.copies, strict=True):
        original = bench_rows.pool[number]
        assert copy["prompt"] != original["prompt"]
        assert abs(len(copy["prompt"]) - len(original["prompt"])) <= 1
        assert (copy["task"], copy["completion"]) == (original["task"], original["completion"])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_rows_and_shares_of_its_description(bench_rows, name):
    pool = variant(bench_rows, name, "one")
    tasks = np.array(bench_rows.everything["task"])[pool.numbers]
    copies = (pool.numbers != bench_rows.originals[pool.numbers]).sum()
    assert copies == (len(bench_rows.copies) if "near-duplicates" in name else 0)
    assert (tasks == "garbage").sum() == (SIZES.garbage if name == "noise" else 0)
    relevant = np.isin(tasks, SETS["one"]).sum()
    assert relevant == {"relatives": 0, "few": min(2 * FEW, 24)}.get(name, 24 + copies_of(bench_rows, pool, "one"))
    shares = {"mixture": [24, 12], "handful": [2, 2], "handful-near-duplicates": [2, 2]}
    assert list(pool.shares.values()) == shares.get(name, [11, 11])
    assert bool(pool.answers) == (name == "noise")


def copies_of(rows, pool, targets):
    mine = pool.numbers[pool.numbers != rows.originals[pool.numbers]]
    return int(np.isin(np.array(rows.everything["task"])[mine], SETS[targets]).sum())


def test_wrong_answers_are_of_the_same_task(bench_rows):
    pool = variant(bench_rows, "noise", "one")
    answers = {
        task: set(bench_rows.pool.filter(lambda row, t=task: row["task"] == t)["completion"]) for task in SETS["one"]
    }
    for number, answer in pool.answers.items():
        task = bench_rows.pool[number]["task"]
        assert answer in answers.get(task, {answer})
        assert pool.row(bench_rows, number)["completion"] == answer


def test_an_error_names_a_target_task_with_too_few_rows():
    with pytest.raises(ValueError, match=f"'double'.*more than {3 * TARGETS_PER_SEED + HELD_OUT}"):
        BenchmarkRows(made_rows(90), SETS, SIZES)
