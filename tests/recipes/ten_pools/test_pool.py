"""Target sets: drawn deterministically, with all tasks and prompts used in turn, apart from held-out rows."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.benchmarks.ten_pools.pool import FEWEST_HELD_OUT, HELD_OUT, SHARES, split_halves, target_sets
from tests.recipes.ten_pools.conftest import TASKS, made_pool, made_rows


def as_lists(sets):
    return [
        (
            {task: rows.tolist() for task, rows in each.targets.items()},
            {t: r.tolist() for t, r in each.held_out.items()},
        )
        for each in sets
    ]


@settings(max_examples=25, deadline=None)
@given(half=st.sampled_from(["development", "test"]), shares=st.sampled_from(list(SHARES)), count=st.integers(1, 30))
def test_sets_are_of_four_tasks_of_their_half_and_apart_from_held_out_rows(half, shares, count):
    pool = made_pool()
    tasks = np.array(pool.bank.rows["task"])
    sets = target_sets(pool, half, count, shares)
    assert [each.number for each in sets] == list(range(count))
    for each in sets:
        assert set(each.tasks) <= set(pool.halves[half])
        assert tuple(each.shares.values()) == SHARES[shares]
        assert len(set(each.target_rows.tolist())) == sum(SHARES[shares])
        for task in each.tasks:
            assert set(tasks[each.targets[task]]) == set(tasks[each.held_out[task]]) == {task}
            assert not set(each.targets[task].tolist()) & set(each.held_out[task].tolist())
            assert FEWEST_HELD_OUT <= len(set(each.held_out[task].tolist())) <= HELD_OUT
    # More sets do not change those before, and a second draw gives the same.
    assert as_lists(target_sets(pool, half, count + 3, shares))[:count] == as_lists(sets)


def test_tasks_are_used_equally_often_and_prompts_in_turn():
    sets = target_sets(made_pool(), "test", 30)
    assert set(Counter(task for each in sets for task in each.tasks).values()) <= set(range(14, 27))
    used: dict[str, list[set[int]]] = {}
    for each in sets:
        for task, rows in each.targets.items():
            used.setdefault(task, []).append(set(rows.tolist()))
    for sets_of_task in used.values():  # 48 rows: four sets of eleven before a prompt comes again
        assert all(not one & other for one, other in pairwise(sets_of_task))
    assert len({each.tasks for each in sets}) > 10


def test_separate_held_out_rows():
    pool = made_pool(separate_held_out=made_rows(TASKS, 200, 224))
    for each in target_sets(pool, "test", 5, "mixture"):
        for task, rows in each.held_out.items():
            assert len(rows) == HELD_OUT
            assert set(pool.held_out.select(rows)["task"]) == {task}


def test_too_few_rows_and_unknown_names_are_refused():
    pool = made_pool()
    short = made_pool(separate_held_out=made_rows(TASKS[:6], 200, 224))
    assert target_sets(short, "development", 1)
    with pytest.raises(ValueError, match="no half 'both'"):
        target_sets(pool, "both", 1)
    with pytest.raises(ValueError, match="no half 'test' or shares 'most'"):
        target_sets(pool, "test", 1, "most")
    few = pool.__class__("few", pool.parts, pool.bank, {"development": TASKS[:3], "test": TASKS[3:]})
    with pytest.raises(ValueError, match="only 3 tasks of the development half"):
        target_sets(few, "development", 1)


def test_available_rows_and_spoilt_rows():
    pool = made_pool(most_per_task=2, completions={3: " wrong"}, garbage=frozenset({"task11"}))
    rows = pool.available_rows(TASKS[:4])
    assert Counter(pool.tasks[rows].tolist()) == {task: 2 if task in TASKS[:4] else 14 for task in TASKS}
    assert pool.row(3) == {"prompt": pool.texts[3][0], "completion": " wrong"}
    assert pool.spoilt.sum() == 1 + 14
    assert len(made_pool().available_rows(TASKS[:4])) == 14 * len(TASKS)


def test_halves_do_not_overlap():
    halves = split_halves("any", TASKS)
    assert sorted(halves["development"] + halves["test"]) == sorted(TASKS)
    assert halves == split_halves("any", TASKS[::-1])
    assert halves != split_halves("other", TASKS)
    assert split_halves("any", TASKS, TASKS[2:4]) == {
        "development": list(TASKS[2:4]),
        "test": [*TASKS[:2], *TASKS[4:]],
    }
