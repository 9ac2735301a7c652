"""Features of a row do not depend on the other rows of its batch, whatever a model does with padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from itl_hf import HiddenStates
from itl_hf.embedding.embedders.batch_effects import choose_grouping, probe_rows
from itl_hf.embedding.embedders.batching import TokenBatches, token_batches
from itl_hf.text import Tokens
from tests.embedding.embedders.architectures import build
from tests.tiny_models import tiny_tokenizer

ROWS = [{"text": "the sum of two and three is five"}, {"text": "reverse"}, {"text": "Paris is the capital, and Rome"}]
ROWS += [{"text": "red green"}, {"text": "reversed red"}]


@pytest.mark.parametrize("layer", [0.75, -1])
@pytest.mark.parametrize("name", ["fnet", "convbert", "mobilebert", "nystromformer", "paligemma", "llama", "bert"])
def test_a_row_has_the_same_features_alone_and_in_a_batch(name, layer, caplog):
    hidden = HiddenStates(build(name), tokenizer=tiny_tokenizer(), layer=layer)
    features = hidden.embed(ROWS)
    alone = torch.cat([hidden.embed([row]) for row in ROWS])
    torch.testing.assert_close(features, alone, rtol=1e-4, atol=1e-5)
    lines = [record.message for record in caplog.records if "padding changes a row's features by" in record.message]
    assert len(lines) == (name not in ("llama", "bert"))


def features_of(kind):
    """Features under which rows depend on nothing, on the longest row of a batch, or on the number of its rows."""

    def features(rows):
        longest = max(len(row.input_ids) for row in rows)
        effect = {"padded": 0.0, "equal lengths": float(longest), "single rows": float(len(rows))}[kind]
        return torch.tensor([[sum(row.input_ids) + effect, 1.0] for row in rows])

    return features


@pytest.mark.parametrize("kind", ["padded", "equal lengths", "single rows"])
def test_the_first_grouping_without_an_effect_is_chosen_once(kind, caplog):
    batches = TokenBatches(100)
    rows = [Tokens([5, 6, 7], 3)]
    options = {"span": "whole", "max_length": 128, "dtype": torch.float32, "name": "Model"}
    choose_grouping(batches, features_of(kind), rows, **options)
    assert batches.grouping == kind
    choose_grouping(batches, features_of("single rows"), rows, **options)
    assert batches.grouping == kind
    assert len(caplog.records) == (kind != "padded")


@pytest.mark.parametrize("span", ["prompt", "completion", "whole"])
@pytest.mark.parametrize("max_length", [2, 10, 128])
def test_the_rows_that_are_tried_have_the_part_that_is_embedded(span, max_length):
    short, long, equal = probe_rows([Tokens([5, 6, 7], 1), Tokens([8], 1)], span, max_length)
    assert len(short.input_ids) == len(equal.input_ids) <= len(long.input_ids) <= max_length
    assert all(start < end for start, end in (row.span(span) for row in (short, long, equal)))


@given(
    lengths=st.lists(st.integers(1, 20), max_size=30),
    budget=st.integers(1, 100),
    grouping=st.sampled_from(["padded", "equal lengths", "single rows"]),
)
def test_batches_hold_the_rows_that_the_grouping_allows(lengths, budget, grouping):
    batches = token_batches(lengths, budget, grouping)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[index] for index in batch]
        assert len(batch) == 1 or max(own) * len(own) <= budget
        assert grouping == "padded" or len(set(own)) == 1
        assert grouping != "single rows" or len(batch) == 1
