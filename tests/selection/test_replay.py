"""Replay: rows of the pool's general part behind the picks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itl_hf import Replay, Selection, SelectionConstraints, SelectionSampler, Selector
from itl_hf.embedding.embedders.vectors import VectorEmbedder
from itl_hf.training import attach
from tests.training import tiny

NUM_ROWS = 60


def pool(num_rows=NUM_ROWS, seed=0):
    """Vectors in six tight groups of different sizes, with the group as text."""
    source = np.random.default_rng(seed)
    group = np.sort(source.choice(6, num_rows, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]))
    vectors = 4 * np.eye(6)[group] + 0.01 * source.normal(size=(num_rows, 6))
    rows = [{"prompt": f"row{row} of group {one}", "completion": "a"} for row, one in enumerate(group)]
    return [row | {"vector": vector.tolist()} for row, vector in zip(rows, vectors, strict=True)]


def select(rows, num_examples=12, replay_share=0.25, **options):
    targets = targets_of(rows)
    selector = Selector(embedder_of(rows), shortlist=None)
    return selector.select(rows, targets, num_examples, replay_share=replay_share, **options)


def targets_of(rows):
    return [{"prompt": "a target", "completion": "a", "vector": rows[0]["vector"]}]


def embedder_of(rows):
    return VectorEmbedder([*rows, *targets_of(rows)], "vector")


@given(share=st.floats(0.001, 0.9), num_picks=st.integers(1, 10_000))
def test_the_share_is_that_of_all_rows(share, num_picks):
    rows = Replay(share).num_rows(num_picks)
    assert rows >= 1
    assert rows == 1 or abs(rows - share * (rows + num_picks)) <= 0.5 + 1e-6  # within half a row


@pytest.mark.parametrize("method", ["random", "k_means"])
def test_replay_rows_stand_behind_the_picks_and_do_not_change_them(method):
    rows = pool()
    plain, replayed = select(rows, replay_share=0), select(rows, replay_share=Replay(0.25, method, seed=3))
    assert plain.replay is None
    assert plain.training_dataset is plain.dataset
    assert replayed.indices.tolist() == plain.indices.tolist()
    assert replayed.dataset[:] == plain.dataset[:]
    numbers = replayed.training_indices
    assert numbers[:12].tolist() == plain.indices.tolist()
    assert len(set(numbers.tolist())) == len(numbers) == 16  # 4 of 16 are a quarter
    training = replayed.training_dataset
    assert training["pool_index"][:] == numbers.tolist()
    assert training["itl_rank"][:] == list(range(1, 17))
    assert training["prompt"][:] == [rows[row]["prompt"] for row in numbers]
    assert training["itl_gain"][12:] == [None] * 4
    assert replayed.record.replay == {"share": 0.25, "method": method, "seed": 3, "rows": 4}
    again = select(rows, replay_share=Replay(0.25, method, seed=3))
    assert again.training_indices.tolist() == numbers.tolist()
    other = select(rows, replay_share=Replay(0.25, method, seed=4))
    assert method == "k_means" or other.training_indices.tolist() != numbers.tolist()


def test_k_means_takes_one_row_of_each_group():
    rows = pool()
    replayed = select(rows, 6, replay_share=Replay(0.5, "k_means"))
    groups = [rows[row]["prompt"][-1] for row in replayed.training_indices[6:]]
    assert sorted(groups) == list("012345")


def test_random_rows_are_drawn_evenly():
    counts = np.zeros(NUM_ROWS)
    rows = pool()
    picks = select(rows, 5, replay_share=0).indices
    for seed in range(40):
        drawn = select(rows, 5, replay_share=Replay(0.5, seed=seed)).training_indices[5:]
        assert not set(drawn) & set(picks)
        counts[drawn] += 1
    expected = 40 * 5 / 55
    assert counts[np.setdiff1d(np.arange(NUM_ROWS), picks)].std() < 2 * np.sqrt(expected)
    assert (counts > 0).sum() > 45


@pytest.mark.parametrize("method", ["random", "k_means"])
def test_excluded_rows_and_rows_trained_on_before_are_not_replayed(method):
    rows = pool()
    constraints = SelectionConstraints(exclude=list(range(20, NUM_ROWS)))
    replayed = select(rows, 4, Replay(0.8, method), constraints=constraints, already_selected=list(range(5)))
    drawn = set(replayed.training_indices[4:].tolist())
    assert drawn == set(range(5, 20)) - set(replayed.indices.tolist())  # 16 were asked for, 11 are there
    assert replayed.record.replay["rows"] == 11


def test_an_extended_selection_keeps_its_random_rows():
    replayed = select(pool(), 10, replay_share=0.2)
    longer = replayed.extend(4)
    assert longer.indices[:10].tolist() == replayed.indices.tolist()
    kept = [row for row in replayed.training_indices[10:] if row not in longer.indices]
    assert longer.training_indices[14:][: len(kept)].tolist() == kept
    assert longer.record.replay["rows"] == 4


def test_a_saved_selection_has_its_replay_rows(tmp_path):
    replayed = select(pool())
    replayed.save(tmp_path / "selected")
    loaded = Selection.load(tmp_path / "selected")
    assert loaded.dataset[:] == replayed.dataset[:]
    assert loaded.training_dataset[:] == replayed.training_dataset[:]
    assert loaded.training_indices.tolist() == replayed.training_indices.tolist()
    assert loaded.record == replayed.record
    assert "replay" not in Selection.load(select(pool(), replay_share=0).save(tmp_path / "plain")).record.to_json()


def test_exports_hold_the_replay_rows(tmp_path):
    replayed = select(pool())
    for path, options in (("rows.jsonl", {}), ("weighted.jsonl", {"weights": "gains"})):
        replayed.export(tmp_path / path, **options)
        rows = [json.loads(line) for line in (tmp_path / path).read_text().splitlines()]
        assert [row["pool_index"] for row in rows] == replayed.training_indices.tolist()
    weights = [row["weight"] for row in rows]
    assert weights[12:] == pytest.approx([1.0] * 4)
    assert np.mean(weights) == pytest.approx(1)
    export = replayed.export(tmp_path / "axolotl", "axolotl")
    assert export.num_rows == 16


def test_samplers_train_on_both():
    replayed = select(pool())
    numbers = replayed.training_indices.tolist()
    assert list(SelectionSampler(replayed)) == numbers
    assert sorted(SelectionSampler(replayed, order="shuffled", seed=2)) == sorted(numbers)
    interleaved = list(SelectionSampler(replayed, order="interleaved"))
    assert sorted(interleaved) == sorted(numbers)
    assert interleaved[:4] == [numbers[0], numbers[12], numbers[1], numbers[13]]  # one target, and replay


@pytest.mark.parametrize("what", ["pool", "training_dataset"])
def test_a_trainer_trains_on_both(what, tmp_path):
    replayed = tiny.select(tiny.pool(text=True), 6, replay_share=0.25)
    dataset = tiny.pool(text=True) if what == "pool" else replayed.training_dataset
    trainer = tiny.without_warnings(attach, tiny.trainer(tmp_path, dataset), replayed)
    trainer.train()
    assert trainer.rows == replayed.training_indices.tolist()
    assert len(trainer.rows) == 8
    with pytest.raises(ValueError, match=r"train_dataset=selection\.training_dataset"):
        attach(tiny.trainer(tmp_path, replayed.dataset), replayed)


@pytest.mark.parametrize(
    ("replay_share", "num_examples", "message"),
    [
        (1.0, 4, "above 0 and below 1"),
        (-0.1, 4, "above 0 and below 1"),
        (True, 4, "above 0 and below 1"),
        ("much", 4, "above 0 and below 1"),
        (0.1, NUM_ROWS, "all 60 that may be picked are"),
    ],
)
def test_impossible_shares_are_refused(replay_share, num_examples, message):
    with pytest.raises(ValueError, match=message):
        select(pool(), num_examples, replay_share)


def test_impossible_methods_are_refused():
    with pytest.raises(ValueError, match="the method of replay must be one of"):
        Replay(method="best")
    rows = pool()
    targets, embedder = targets_of(rows), embedder_of(rows)
    selector = Selector(embedder, shortlist=embedder)
    with pytest.raises(ValueError, match=r"use Replay\(method='random'\)"):
        selector.select(rows, targets, 4, replay_share=Replay(method="k_means"))
    replayed = selector.select(rows, targets, 4, replay_share=0.5)
    assert len(set(replayed.training_indices.tolist())) == 8
