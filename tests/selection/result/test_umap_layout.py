"""The map by UMAP: what is given to the library and what is made of its answer. The library itself is a stand-in."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from itl_hf import Embedder, Selection, Selector
from itl_hf.gp.pool import Pool
from itl_hf.selection.result import umap_layout as module


class Doubled:
    """Gives each row's first two numbers, doubled."""

    def __init__(self, n_neighbors, random_state):
        assert n_neighbors >= 2
        assert random_state == 0

    def fit_transform(self, rows):
        return 2 * rows[:, :2]


class Words(Embedder):
    dimension = 3

    def fingerprint(self):
        return {"embedder": "words"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        return torch.tensor([[len(row["text"]), row["text"].count("a"), 1.0] for row in rows])


@pytest.fixture
def umap(monkeypatch):
    fake = types.ModuleType("umap")
    fake.UMAP = Doubled
    monkeypatch.setitem(sys.modules, "umap", fake)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: True)


def test_pool_targets_and_picks_keep_their_places(umap):
    rows = torch.arange(12.0).reshape(6, 2)
    layout = module.umap_layout(Pool(rows), torch.tensor([[50.0, 60.0]]).double(), [4, 1])
    np.testing.assert_allclose(layout.pool, 2 * rows)
    assert layout.targets.tolist() == [[100, 120]]
    assert layout.picks.tolist() == [[16, 18], [4, 6]]
    assert layout.method == "umap"


def test_a_selection_keeps_which_map_it_has(umap, tmp_path):
    pool = ["a", "banana", "cherry cake", "an apple a day", "plum"]
    selection = Selector(Words(), layout="umap").select(pool, ["a banana"], 2)
    assert Selection.load(selection.save(tmp_path / "selected")).layout.method == "umap"
    assert Selector(Words()).select(pool, ["a banana"], 2).layout.method == "pca"


def test_what_is_missing_or_unknown_is_said_early(monkeypatch):
    with pytest.raises(ValueError, match="'pca' or 'umap', got 'tsne'"):
        Selector(Words(), layout="tsne")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"itl-hf\[umap\]"):
        Selector(Words(), layout="umap")
