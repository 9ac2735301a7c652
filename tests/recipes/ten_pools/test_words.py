"""Every generated question can be said in three other ways, with its content unchanged."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

pytest.importorskip("reasoning_gym")

from recipes.benchmarks.ten_pools.rows import plain_row
from recipes.benchmarks.ten_pools.words import POOL_WORDINGS, TARGET_WORDINGS, all_wordings, reworded
from recipes.offline import REASONING_TASKS, reasoning_rows


@pytest.fixture(scope="module")
def questions():
    rows = reasoning_rows(dict.fromkeys(REASONING_TASKS, 25), seed=11)
    return [(row["task"], row["prompt"][0]["content"]) for row in rows]


def test_there_are_three_wordings_for_every_task():
    assert set(all_wordings()) == set(REASONING_TASKS)
    for wordings in all_wordings().values():
        assert len(set(wordings.say)) == 3
        assert all(len(replacements) == 3 for _, replacements in wordings.swap)


def test_every_question_is_reworded_in_three_different_ways(questions):
    for task, question in questions:
        texts = [question, *(all_wordings()[task].reword(question, number) for number in range(3))]
        assert len(set(texts)) == 4, task


# Of these the wording drops or adds numbers of the instruction itself, such as "1.23e+4" or "a 6-sided dice".
NUMBERS_IN_INSTRUCTIONS = {
    *("advanced_geometry", "base_conversion", "binary_alternation", "calendar_arithmetic", "countdown"),
    *("course_schedule", "cryptarithm", "decimal_arithmetic", "dice", "knights_knaves", "maze", "mini_sudoku"),
    *("power_function", "prime_factorization", "simple_geometry", "survo", "binary_matrix", "bitwise_arithmetic"),
    *("count_bits", "color_cube_rotation", "number_format", "syllogism", "simple_equations", "caesar_cipher"),
    *("count_primes", "palindrome_generation", "word_sorting"),
}


def test_numbers_of_the_content_are_kept(questions):
    for task, question in questions:
        if task not in NUMBERS_IN_INSTRUCTIONS:
            numbers = sorted(re.findall(r"\d+", question))
            for number in range(3):
                assert sorted(re.findall(r"\d+", all_wordings()[task].reword(question, number))) == numbers, task


def test_wordings_of_targets_and_pool_share_few_words():
    """The fixed words of two wordings of a task overlap little, so that words do not find the task."""
    for task, wordings in all_wordings().items():
        words = [set(re.findall(r"[a-z]{4,}", re.sub(r"\{\w+\}", "", say.lower()))) for say in wordings.say]
        for one, other in combinations(words, 2):
            assert len(one & other) <= 0.5 * max(1, min(len(one), len(other))) + 1, (task, one & other)


def test_pool_and_targets_take_turns():
    rows = [plain_row(row) for row in reasoning_rows({"gcd": 4}, seed=1)]
    pool, targets = reworded(rows, POOL_WORDINGS), reworded(rows, TARGET_WORDINGS)
    assert [row["prompt"].startswith("Find the Greatest") for row in pool] == [True, False, True, False]
    assert not {row["prompt"] for row in targets} & {row["prompt"] for row in pool}
    assert [row["completion"] for row in targets] == [row["completion"] for row in rows]
    assert all(row["prompt"].endswith("\nAnswer:") for row in [*pool, *targets])


def test_a_question_without_a_wording_is_an_error():
    with pytest.raises(ValueError, match="no wording for the question"):
        all_wordings()["gcd"].reword("What is love?", 0)
