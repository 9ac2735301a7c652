import pytest
from hypothesis import given
from hypothesis import strategies as st

from itl_hf.embedding.batching import token_batches


@given(lengths=st.lists(st.integers(0, 200)), budget=st.integers(1, 300))
def test_every_row_once_within_the_budget(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max(budget, len(batch))


def test_longest_first_and_full():
    assert token_batches([3, 9, 4, 3, 3], 10) == [[1], [2, 0], [3, 4]]


def test_ties_keep_their_order():
    assert token_batches([2, 2, 2], 100) == [[0, 1, 2]]


def test_a_row_beyond_the_budget_is_alone():
    assert token_batches([50, 1], 10) == [[0], [1]]


@pytest.mark.parametrize("budget", [0, -5])
def test_no_budget(budget):
    with pytest.raises(ValueError, match="batch_tokens"):
        token_batches([1], budget)
