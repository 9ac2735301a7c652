"""Selecting again from the same pool: what is kept, that it changes no result, and when it is not used."""

import datasets
import numpy as np
import pytest
import torch

from itl_hf import HiddenStates, SelectionConstraints, Selector
from itl_hf.gp import attainable
from itl_hf.selection import kept_features
from itl_hf.selection.pool_memory import rows_key
from tests.embedding.fakes import HashEmbedder
from tests.tiny_models import tiny_model, tiny_tokenizer

WORDS = ("river", "stone", "cloud", "window", "garden", "apple", "banana")
ROWS = [{"prompt": f"{WORDS[i % 7]} {WORDS[i // 7 % 7]} {i}", "completion": "yes", "good": 0.5} for i in range(60)]
TARGETS = [[{"prompt": f"{word} {number}"} for number in range(8)] for word in WORDS[:3]]


class Prompts(HashEmbedder):
    def embed(self, rows, *, first_row=0, on_rows=None):
        return super().embed([{"text": row["prompt"]} for row in rows], on_rows=on_rows)


@pytest.fixture
def pool():
    return datasets.Dataset.from_list(ROWS)


@pytest.fixture
def prepared(monkeypatch):
    """Counts the pools that are prepared."""
    count = []
    real = kept_features.Pool
    monkeypatch.setattr(kept_features, "Pool", lambda *arguments: count.append(1) or real(*arguments))
    return count


def same(one, two):
    assert one.record == two.record
    assert one.dataset.to_list() == two.dataset.to_list()
    for name in ("indices", "gains", "target_variance", "irreducible", "whole_pool", "reach", "features"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in ("pool", "pool_rows", "targets", "picks", "explained"):
        np.testing.assert_array_equal(getattr(one.layout, name), getattr(two.layout, name))


@pytest.mark.parametrize("kernel", ["auto", "linear", "laplace"])
@pytest.mark.parametrize("store", [None, False])
def test_every_later_selection_equals_that_of_a_new_selector(pool, kernel, store):
    selector = Selector(Prompts(), kernel=kernel, store=store)
    for number, targets in enumerate(TARGETS):
        options = {"constraints": SelectionConstraints(exclude=[3])} if number == 1 else {}
        later = selector.select(pool, targets, 5 + number, **options)
        same(later, Selector(Prompts(), kernel=kernel, store=False).select(pool, targets, 5 + number, **options))


def test_the_pool_is_read_embedded_and_prepared_once(pool, prepared):
    embedder = Prompts()
    selector = Selector(embedder, store=False)
    selector.select(pool, TARGETS[0], 5)
    assert (embedder.rows_embedded, embedder.rows_checked) == (68, 68)
    for targets in TARGETS:
        selector.select(pool, targets, 7)
    assert (embedder.rows_embedded, embedder.rows_checked, len(prepared)) == (68 + 24, 68 + 24, 1)


def test_another_preparation_or_quality_is_prepared_anew(pool, prepared):
    selector = Selector(Prompts())
    plain = selector.select(pool, TARGETS[0], 5)
    weighted = selector.select(pool, TARGETS[0], 5, quality="good")
    selector.standardize = "scale"
    scaled = selector.select(pool, TARGETS[0], 5)
    assert len(prepared) == 3
    same(plain, Selector(Prompts()).select(pool, TARGETS[0], 5))
    same(weighted, Selector(Prompts()).select(pool, TARGETS[0], 5, quality="good"))
    same(scaled, Selector(Prompts(), standardize="scale").select(pool, TARGETS[0], 5))


def test_a_list_that_was_changed_in_place_is_read_again():
    rows = [dict(row) for row in ROWS]
    embedder = Prompts()
    selector = Selector(embedder, store=False)
    selector.select(rows, TARGETS[0], 5)
    selector.select(rows, TARGETS[0], 5)
    assert embedder.rows_embedded == 60 + 2 * 8
    rows[7]["prompt"] = "another text"
    same(selector.select(rows, TARGETS[0], 5), Selector(Prompts(), store=False).select(rows, TARGETS[0], 5))
    assert embedder.rows_embedded == 2 * 60 + 3 * 8


@pytest.mark.parametrize(
    "change", [{"a": True}, {"a": 1.0}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": 1, "b": 1}, {"a": [1]}]
)
def test_lists_are_told_apart_by_content_and_type(change):
    assert rows_key([{"a": 1}], None) == rows_key([{"a": 1}], None) != rows_key([change], None)
    assert rows_key([{"a": object()}], None) is None


def test_another_dataset_and_other_columns_are_read_again(pool):
    embedder = Prompts()
    selector = Selector(embedder, store=False)
    selector.select(pool, TARGETS[0], 5)
    turned = pool.select(range(59, -1, -1))
    same(selector.select(turned, TARGETS[0], 5), Selector(Prompts(), store=False).select(turned, TARGETS[0], 5))
    assert embedder.rows_embedded == 2 * 68
    renamed = pool.rename_columns({"prompt": "other"}).add_column("prompt", pool["prompt"][::-1])
    same(selector.select(renamed, TARGETS[0], 5), Selector(Prompts(), store=False).select(renamed, TARGETS[0], 5))


def test_weights_that_change_are_never_answered_from_memory(pool):
    selector = Selector(HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer()), store=False)
    before = selector.select(pool, TARGETS[0], 5)
    with torch.no_grad():
        next(selector.embedder.model.parameters()).mul_(-1.5)
    after = selector.select(pool, TARGETS[0], 5)
    same(after, Selector(selector.embedder, store=False).select(pool, TARGETS[0], 5))
    assert before.record.embedder != after.record.embedder


def test_features_that_are_too_large_are_not_kept(pool, monkeypatch):
    monkeypatch.setattr(kept_features, "CACHE_BYTES", 100)
    embedder = Prompts()
    selector = Selector(embedder, store=False)
    selector.select(pool, TARGETS[0], 5)
    selector.select(pool, TARGETS[0], 5)
    assert embedder.rows_embedded == 2 * 68


def test_limits_are_measured_when_they_are_first_read(pool, monkeypatch):
    calls = []
    real = attainable._kernel_parts
    monkeypatch.setattr(attainable, "_kernel_parts", lambda *arguments: calls.append(1) or real(*arguments))
    selection = Selector(Prompts()).select(pool, TARGETS[0], 5)
    assert not calls
    assert (selection.irreducible <= selection.whole_pool + 1e-12).all()
    assert (selection.whole_pool <= selection.target_variance[-1] + 1e-9).all()
    assert len(calls) == 1


def test_a_saved_selection_has_its_limits(pool, tmp_path):
    selection = Selector(Prompts()).select(pool, TARGETS[0], 5)
    loaded = type(selection).load(selection.save(tmp_path / "selected"))
    np.testing.assert_array_equal(loaded.irreducible, selection.irreducible)
    np.testing.assert_array_equal(loaded.whole_pool, selection.whole_pool)


def test_an_extended_selection_equals_a_longer_one(pool):
    selector = Selector(Prompts(), noise_std=1.0)
    first = selector.select(pool, TARGETS[0], 4)
    selector.select(pool, TARGETS[1], 4)  # in between, from the same kept pool
    longer = Selector(Prompts(), noise_std=1.0).select(pool, TARGETS[0], 8)
    assert first.extend(4).indices.tolist() == longer.indices.tolist()
