import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itl_hf.embedding.embedders.batching import token_batches


@given(lengths=st.lists(st.integers(0, 200)), budget=st.integers(1, 3000))
def test_every_row_once_within_the_budget(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded, real = len(batch) * max(lengths[i] for i in batch), sum(lengths[i] for i in batch)
        assert len(batch) == 1 or padded <= budget
        assert padded - real <= max(budget // 64, real // 20)


def test_longest_first_and_full():
    assert token_batches([32, 90, 32, 31, 31], 100) == [[1], [0, 2, 3], [4]]


def test_a_row_much_shorter_starts_a_batch():
    assert token_batches([100, 10, 100, 10], 1000) == [[0, 2], [1, 3]]


def test_little_padding_on_realistic_lengths():
    lengths = [int(n) + 1 for n in np.random.default_rng(0).lognormal(4, 0.8, size=512)]
    batches = token_batches(lengths, 8192)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.07 * sum(lengths)
    assert len(batches) < 30


def test_ties_keep_their_order():
    assert token_batches([2, 2, 2], 100) == [[0, 1, 2]]


def test_a_row_beyond_the_budget_is_alone():
    assert token_batches([50, 1], 10) == [[0], [1]]


@pytest.mark.parametrize("budget", [0, -5])
def test_no_budget(budget):
    with pytest.raises(ValueError, match="batch_tokens"):
        token_batches([1], budget)
