"""The text of picks is compared with what a trainer holds: what selection reads is what is trained on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from itl_hf.text import as_dataset, training_rows
from itl_hf.training.pick_positions import check_text

CALLS = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]


def conversations(role, number, **answer):
    return {"messages": [{"role": role, "content": f"Question {number}"}, {"role": "gpt", "content": "", **answer}]}


@pytest.mark.parametrize("answer", [{"content": "Yes"}, {"tool_calls": CALLS}, {"tool_calls": json.dumps(CALLS)}])
def test_rows_in_other_words_for_roles_and_calls_are_the_same(answer):
    pool = as_dataset([conversations("human", number, **answer) for number in range(3)])
    trained = training_rows(pool)
    check_text(SimpleNamespace(train_dataset=trained), np.arange(3), pool)
    with pytest.raises(ValueError, match="has another 'messages' than the row that was picked"):
        check_text(SimpleNamespace(train_dataset=trained), np.array([1, 2, 0]), pool)
