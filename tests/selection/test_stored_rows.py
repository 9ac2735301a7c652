"""A format of the pool changes no pick, no group and no cost."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from itl_hf import SelectionConstraints, Selector
from tests.embedding.fakes import HashEmbedder

POOL = Dataset.from_dict({"text": [f"row {i}" for i in range(24)], "source": [i % 4 for i in range(24)]})


@pytest.mark.parametrize("format_type", ["torch", "numpy", "pandas", "arrow"])
def test_groups_and_costs_are_those_of_the_stored_rows(format_type):
    constraints = SelectionConstraints(groups="source", group_shares=0.25, costs="source", token_budget=100)

    def picks(pool):
        selection = Selector(HashEmbedder()).select(pool, ["row 1", "row 2"], 8, constraints=constraints)
        assert selection.dataset["text"][:] == [POOL[int(i)]["text"] for i in selection.indices]
        return selection.indices.tolist()

    expected = picks(POOL)
    assert np.bincount(POOL[expected]["source"]).max() <= 2
    assert picks(POOL.with_format(format_type)) == expected
    assert picks(POOL.with_format(format_type, columns=["source"])) == expected


def test_a_transform_of_the_pool_is_refused():
    pool = POOL.with_transform(lambda batch: batch)
    with pytest.raises(ValueError, match="pool: the dataset has a transform"):
        Selector(HashEmbedder()).select(pool, ["row 1"], 2)
