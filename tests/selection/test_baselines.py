"""What every baseline keeps to, whatever its formula: no repeats, seeds, exclusions, limits, blocks, processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from itl_hf import SelectionConstraints, SelectionRecord, StopWhen, select_rows
from itl_hf.selection.baselines import (
    BADGE,
    BM25,
    DSIR,
    GIST,
    LESS,
    InformationDensity,
    KMeans,
    LengthMatchedRandom,
    LossDrop,
    UnbalancedTransport,
)
from itl_hf.selection.registry import ACQUISITION_NAMES, describe_acquisition, resolve_acquisition
from tests.oracle import gaussian_process as oracle
from tests.selection import sharded_baselines
from tests.selection.baseline_cases import NAMES, RAW, TEXTUAL, acquisition_of, problem, texts_of
from tests.worlds import script

DRAWING = ("random", "length_matched_random", "badge", "k_means", "dsir")

each = pytest.mark.parametrize("name", NAMES)


def pick(name, count, rows=60, seed=0, noises=None, **options):
    pool, targets = problem(seed, rows)
    words = texts_of(pool, targets) if name in TEXTUAL else {}
    acquisition = acquisition_of(name, pool, **(noises or {}))
    return select_rows(pool, targets, count, acquisition=acquisition, kernel="linear", **words, **options)


def test_every_baseline_is_in_the_battery():
    ours = {"itl", "vtl", "sift", "ctl", "mean_marginal_itl", "undirected"}
    assert set(NAMES) == set(ACQUISITION_NAMES) - ours - {"rds", "doubly_greedy"}
    assert resolve_acquisition("rds") == resolve_acquisition("round_robin")
    assert resolve_acquisition("doubly_greedy") == resolve_acquisition("less")


@each
def test_no_row_comes_twice_and_all_rows_can_be_picked(name):
    picks = pick(name, 60).indices
    assert sorted(picks) == list(range(60))


@each
def test_gains_are_the_information_about_the_targets(name):
    picked = pick(name, 8, noises={"noise_std": 0.7, "target_noise_std": 0.5})
    pool, targets = oracle.standardize(*(rows.numpy() for rows in problem(0, 60)))
    features = np.concatenate([pool, targets])
    kernel, anchors, picks = features @ features.T, list(range(60, len(features))), picked.indices.tolist()
    gains = [oracle.information_gain(kernel, row, anchors, picks[:i], 0.49, 0.25) for i, row in enumerate(picks)]
    np.testing.assert_allclose(picked.gains, gains, rtol=1e-6, atol=1e-12)
    assert picked.target_variance.shape == (9, 4)


@each
def test_picks_depend_on_the_own_seed_alone(name):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what must not matter
    first = pick(name, 12).indices.tolist()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    before = torch.get_rng_state()
    assert pick(name, 12).indices.tolist() == first
    assert torch.equal(torch.get_rng_state(), before)
    if name in DRAWING:
        options = {"top_k": False} if name == "dsir" else {}
        others = [resolve_acquisition(name, seed=seed, **options) for seed in (1, 2, 3)]
        words = texts_of(*problem(0, 60)) if name in TEXTUAL else {}
        picks = [select_rows(*problem(0, 60), 12, acquisition=other, **words).indices.tolist() for other in others]
        assert any(other != first for other in picks)


@each
def test_what_was_trained_on_before_is_not_picked(name):
    known = [3, 8, 21, 40]
    picks = pick(name, 56, already_selected=known).indices.tolist()
    assert sorted([*picks, *known]) == list(range(60))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("k_means", "length_matched_random")])
def test_a_selection_continued_is_one_longer_selection(name):
    whole, first = pick(name, 20), pick(name, 9)
    rest = pick(name, 11, already_selected=first.indices, noises={"noise_std": whole.record.noise_std})
    if name == "information_density":  # its uncertainty depends on the noise, and that on the number of picks
        noises = {"noise_std": 1.0}
        whole, first = pick(name, 20, noises=noises), pick(name, 9, noises=noises)
        rest = pick(name, 11, already_selected=first.indices, noises=noises)
    assert [*first.indices, *rest.indices] == whole.indices.tolist()


@each
def test_group_shares_and_budgets_are_kept(name):
    groups = [row % 3 for row in range(60)]
    picked = pick(name, 9, constraints=SelectionConstraints(groups=groups, group_shares=1 / 3))
    assert np.bincount(picked.indices % 3).tolist() == [3, 3, 3]
    least = pick(name, 10, constraints=SelectionConstraints(groups=groups, group_shares={1: (0.5, 1.0)}))
    assert len(least) == 10
    assert (least.indices % 3 == 1).sum() >= 5
    costs = np.arange(60) % 7 + 1.0
    budgeted = pick(name, 40, constraints=SelectionConstraints(costs=costs, token_budget=30))
    assert costs[budgeted.indices].sum() <= 30
    assert costs.min() > 30 - costs[budgeted.indices].sum()  # until nothing fits any more
    assert len(set(budgeted.indices.tolist())) == len(budgeted)


@each
def test_with_replacement_there_are_always_enough(name):
    groups = [row % 3 for row in range(20)]
    picks = pick(name, 45, rows=20, constraints=SelectionConstraints(replace=True)).indices
    assert len(picks) == 45
    limited = pick(
        name, 45, rows=20, constraints=SelectionConstraints(replace=True, groups=groups, group_shares=1 / 3)
    ).indices
    assert np.bincount(limited % 3).tolist() == [15, 15, 15]
    if name not in ("random", "information_density"):
        assert picks[20:40].tolist() == picks[:20].tolist()


@each
def test_more_picks_than_different_rows(name):
    pool, targets = problem(1, 6)
    pool = pool.repeat(5, 1)
    words = texts_of(pool, targets) if name in TEXTUAL else {}
    picks = select_rows(pool, targets, 30, acquisition=acquisition_of(name, pool), **words).indices
    assert sorted(picks) == list(range(30))


@each
def test_stopping_early(name):
    whole = pick(name, 20)
    stopped = pick(
        name, 20, constraints=SelectionConstraints(stop_when=StopWhen(gain=float(whole.gains.min()) * 1.001))
    )
    assert stopped.indices.tolist() == whole.indices[: whole.gains.argmin()].tolist()


@each
def test_blocks_do_not_change_the_picks(name, monkeypatch):
    whole = pick(name, 25, rows=200)
    monkeypatch.setattr("itl_hf.gp.pool.BLOCK_ROWS", 13)
    monkeypatch.setattr("itl_hf.selection.baselines.farthest.MOST_SINGLE", 1)
    monkeypatch.setattr("itl_hf.selection.baselines.ranking.ANCHORS_AT_ONCE", 3)
    assert pick(name, 25, rows=200).indices.tolist() == whole.indices.tolist()


@each
def test_the_record_says_what_was_used(name):
    record = SelectionRecord.from_json(json.loads(json.dumps(pick(name, 3).record.to_json())))
    assert record.acquisition_name == name
    expected = dict.fromkeys(RAW, "raw features") | {"dsir": "texts", "bm25": "texts"}
    expected["length_matched_random"] = "lengths"
    assert record.acquisition_options["reads"] == expected.get(name, "features")
    assert ("bm25s" in record.acquisition_options) == (name == "bm25")
    assert ("seed" in record.acquisition_options) == (name in DRAWING)


def test_long_options_are_recorded_by_their_hash():
    lengths = list(range(100))
    said = [describe_acquisition(LengthMatchedRandom(lengths=values))["lengths"] for values in (lengths, lengths[::-1])]
    assert all(text.startswith("100 values, sha256 ") for text in said)
    assert said[0] != said[1]


WRONG = {
    "seed": (lambda: resolve_acquisition("random", seed=-1), "seed must be a whole number of at least 0, got -1"),
    "a seed too many": (lambda: resolve_acquisition("cosine", seed=1), "'cosine' draws nothing"),
    "beta": (lambda: InformationDensity(beta=-1.0), "beta must be 0 or positive"),
    "strata": (lambda: LengthMatchedRandom(strata=0), "strata must be a whole number of at least 1"),
    "itself": (lambda: LengthMatchedRandom(like="length_matched_random"), "another acquisition than"),
    "no such": (lambda: LengthMatchedRandom(like="itll"), "unknown acquisition 'itll'"),
    "nothing to match": (lambda: LengthMatchedRandom(like=[]), "like: an empty selection"),
    "lengths": (lambda: LengthMatchedRandom(lengths=[1.0, float("nan")]), "lengths must be finite"),
    "features": (lambda: BADGE(features="centred"), "features must be one of"),
    "iterations": (lambda: KMeans(max_iterations=1.5), "max_iterations must be"),
    "rates": (lambda: LESS(learning_rates=(1.0, 0.0)), "learning_rates must be positive"),
    "buckets": (lambda: DSIR(num_buckets=0), "num_buckets must be"),
    "span": (lambda: DSIR(span="answer"), "span must be one of"),
    "k1": (lambda: BM25(k1=-1.0), "k1 must be"),
    "b": (lambda: BM25(b=2.0), "b must be between 0 and 1"),
    "no texts": (lambda: plain("dsir"), "reads texts: give texts=.texts of the pool, texts of"),
    "no lengths": (lambda: plain("length_matched_random"), "lengths= on the acquisition"),
    "half of the texts": (lambda: plain("bm25", texts=(["a"] * 5, None)), "together"),
    "too few texts": (lambda: plain("bm25", texts=(["a"] * 4, ["a"] * 4)), "texts of the pool must hold one .* of 5"),
    "no text": (lambda: plain("bm25", texts=(["a", 3, "a", "a", "a"], ["a"] * 4)), "texts of the pool: row 1 must be"),
    "lengths of others": (lambda: plain(LengthMatchedRandom(lengths=[1.0])), "lengths must hold one number for each"),
    "a row that is not there": (lambda: plain(LengthMatchedRandom(like=[7], lengths=[1.0] * 5)), "like: row 7"),
    "subtasks": (lambda: plain(LESS(subtasks=["a"])), "subtasks must hold a label for each of 4"),
    "share of the variance": (lambda: GIST(explained_variance=0.0), "explained_variance must be above 0"),
    "rank": (lambda: GIST(rank=0), "rank must be a whole number of at least 1"),
    "no subspace": (lambda: select_rows([[1.0], [2.0]], [[0.0]], 1, acquisition="gist"), "targets are zero"),
    "reg": (lambda: UnbalancedTransport(reg=0.0), "reg must be positive"),
    "penalty": (lambda: UnbalancedTransport(pool_penalty=float("inf")), "pool_penalty must be positive and finite"),
    "no losses": (lambda: resolve_acquisition("loss_drop"), "LossDrop.before=..., after=..."),
    "a negative loss": (lambda: LossDrop(before=[1.0, -1.0], after=[1.0, 1.0]), "before of row 1 is -1.0"),
    "a loss that is none": (lambda: LossDrop(before=[1.0], after=[float("nan")]), "after of row 0 is nan"),
    "unequal losses": (lambda: LossDrop(before=[1.0], after=[1.0, 1.0]), "before has 1 losses and after 2"),
    "losses of others": (lambda: plain(LossDrop(before=[1.0], after=[1.0])), "a loss for each of 5 rows"),
    "widths": (lambda: plain(LESS(learning_rates=[1.0] * 5)), "are not 5 checkpoints"),
}


def plain(acquisition, **words):
    return select_rows(*problem(0, 5), 2, acquisition=acquisition, **words)


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bm25_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="bm25s"):
        BM25()


def test_picks_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("itl_hf.gp.pool.BLOCK_ROWS", sharded_baselines.BLOCK_ROWS)
    alone = sharded_baselines.picks()
    assert len(alone) == 2 * len(NAMES)
    script("tests.selection.sharded_baselines", tmp_path)
    for rank in range(sharded_baselines.PROCESSES):
        together = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        for name, picked in alone.items():
            assert picked["indices"] == together[name]["indices"], name
            np.testing.assert_allclose(picked["gains"], together[name]["gains"], rtol=1e-6, atol=1e-9, err_msg=name)
