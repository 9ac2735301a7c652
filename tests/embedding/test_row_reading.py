"""The one pass over a dataset's text: what it computes, and that a selection makes no second one."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from itl_hf import HiddenStates, SelectionConstraints, Selector
from itl_hf.embedding.row_keys import row_keys
from itl_hf.embedding.row_reading import SAMPLE_ROWS, read_dataset
from tests.house.measure import text_reads
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

ROWS = [{"prompt": f"{text} {n}", "completion": "yes", "source": n % 3} for n in range(50) for text in SENTENCES]


def test_it_finds_what_separate_passes_find():
    dataset = Dataset.from_list(ROWS)
    reading = read_dataset(dataset, keep_texts=True)
    np.testing.assert_array_equal(reading.keys.keys, row_keys(dataset).keys)
    assert reading.keys.hash == row_keys(dataset).hash
    assert reading.texts == [(row["prompt"], row["completion"]) for row in ROWS]
    assert reading.sample == dict(enumerate(reading.texts))
    assert reading.num_tokens is None


def test_prompts_are_compared_without_case_and_white_space():
    reading = read_dataset(Dataset.from_dict({"prompt": ["A b", "c", "a  B\n", "a b c"], "completion": list("wxyz")}))
    others = read_dataset(Dataset.from_dict({"text": ["a b", "nothing"]}))
    assert reading.rows_with_prompts(others.prompt_keys).tolist() == [0, 2]


def test_the_sample_is_spread_over_a_large_dataset():
    reading = read_dataset(Dataset.from_dict({"text": [str(n) for n in range(3 * SAMPLE_ROWS)]}))
    assert len(reading.sample) == SAMPLE_ROWS
    assert {min(reading.sample), max(reading.sample)} == {0, 3 * SAMPLE_ROWS - 1}
    assert all(text == (str(row), "") for row, text in reading.sample.items())


def test_tokens_are_those_of_the_embedders_tokenizer():
    embedder = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())
    counts = read_dataset(Dataset.from_list(ROWS[:8]), embedder, count_tokens=True).num_tokens
    alone = [read_dataset(Dataset.from_list([row]), embedder, count_tokens=True).num_tokens[0] for row in ROWS[:8]]
    assert counts.tolist() == alone
    assert min(alone) > 2


@pytest.mark.parametrize("acquisition", ["itl", "bm25"])
def test_a_selection_reads_the_pools_text_once(tmp_path, acquisition):
    pool, targets = Dataset.from_list(ROWS), [{"prompt": text} for text in SENTENCES[:2]]
    embedder = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())
    selector = Selector(embedder, acquisition, store=tmp_path)
    constraints = SelectionConstraints(token_budget=400, groups="source", group_shares=0.5, exclude=pool.select([0]))
    assert text_reads(lambda: selector.select(pool, targets, 5, constraints=constraints), len(pool)) == pytest.approx(
        2, abs=0.04
    )
    # Rows more than once: those that say which format the pool has.
    # The selector remembers the pool; another one finds the features in the store, and reads the rows once.
    assert text_reads(lambda: selector.select(pool, targets, 5, constraints=constraints), len(pool)) < 0.04
    selector = Selector(embedder, acquisition, store=tmp_path)
    assert text_reads(lambda: selector.select(pool, targets, 5, constraints=constraints), len(pool)) == pytest.approx(
        1, abs=0.04
    )
