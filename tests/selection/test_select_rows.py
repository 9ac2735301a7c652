"""`select_rows` against brute force, and what it does with bad input."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf import ITL, Random, SelectionConstraints, select_rows
from tests.oracle import gaussian_process as oracle
from tests.oracle import high_precision

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def problem(seed, rows, dimension, num_targets, duplicates=0, dtype="float64"):
    """A random pool and targets with some structure: rows lean towards a few common directions, some are repeated."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(3, dimension))
    draw = lambda count: rng.normal(size=(count, 3)) @ directions + rng.normal(size=(count, dimension))
    pool, targets = draw(rows), draw(num_targets)
    for row in rng.integers(0, rows, size=duplicates):
        pool[rng.integers(0, rows)] = pool[row]
    as_stored = lambda array: torch.tensor(array).to(DTYPES[dtype])
    return as_stored(pool), as_stored(targets)


#: The linear kernel has the simplest brute force; tests/search/test_battery.py holds the others to it.
linear = functools.partial(select_rows, kernel="linear")

CASES = [
    (seed, rows, dimension, num_targets, duplicates, dtype, noise_std, target_noise)
    for seed, (rows, dimension, num_targets, duplicates) in enumerate(
        [(25, 6, 1, 0), (30, 8, 3, 10), (20, 4, 9, 5), (12, 30, 5, 4), (40, 10, 10, 20), (18, 3, 40, 6)]
    )
    for dtype in ("float64", "float32", "bfloat16")
    for noise_std in (1e-4, 1e-2, 0.3, 1.0, 5.0, 1e3)
    for target_noise in ("equal", "larger")
]


@pytest.mark.parametrize(
    ("seed", "rows", "dimension", "num_targets", "duplicates", "dtype", "noise_std", "target_noise"), CASES
)
def test_picks_equal_brute_force(seed, rows, dimension, num_targets, duplicates, dtype, noise_std, target_noise):
    pool, targets = problem(seed, rows, dimension, num_targets, duplicates, dtype)
    target_noise_std = noise_std if target_noise == "equal" else 3 * noise_std
    num_examples = min(10, rows)
    picked = linear(pool, targets, num_examples, acquisition=ITL(noise_std, target_noise_std))
    plain = oracle.standardize(pool.double().numpy(), targets.double().numpy())
    picks, gains, variance = oracle.greedy_itl(*plain, num_examples, noise_std, target_noise_std)
    if picked.indices.tolist() != picks and noise_std == 1e-4:  # 80 digits tell scores apart that count as equal here
        certain_picks = picked.indices.tolist()[: (picked.record.exactness or {"first": num_examples})["first"]]
        assert certain_picks != picks[: len(certain_picks)]
        process = high_precision.Process("linear", *(rows.tolist() for rows in plain), noise_std, target_noise_std)
        assert max(high_precision.shortfalls(process, "itl", certain_picks)) <= 1e-9
        return
    assert picked.indices.tolist() == picks
    np.testing.assert_allclose(picked.gains, gains, rtol=1e-5, atol=1e-13 / noise_std**2 + 1e-12)
    np.testing.assert_allclose(picked.target_variance, variance, rtol=1e-5, atol=1e-9)
    assert picked.target_variance.min() >= 0


@pytest.mark.parametrize("seed", range(5))
def test_noise_free_targets_equal_brute_force(seed):
    pool, targets = problem(seed, rows=30, dimension=12, num_targets=4, duplicates=5)
    picked = linear(pool, targets, 8, acquisition=ITL(0.5, 0.0))
    picks, gains, _ = oracle.greedy_itl(*oracle.standardize(pool.numpy(), targets.numpy()), 8, 0.5, 0.0)
    assert picked.indices.tolist() == picks
    np.testing.assert_allclose(picked.gains, gains, rtol=1e-6)


def test_the_oracle_agrees_with_entropies():
    pool, targets = oracle.standardize(*(rows.numpy() for rows in problem(3, rows=10, dimension=5, num_targets=3)))
    features = np.concatenate([pool, targets])
    gp = (features @ features.T, 4, [10, 11, 12], [1, 2], 0.25, 0.5)
    assert oracle.information_gain(*gp) == pytest.approx(oracle.information_gain_by_entropies(*gp), rel=1e-9)


def test_gains_add_up_to_the_total_information():
    """The chain rule: I(y_A; y_D) = 1/2 log det(K_AA + r) - 1/2 log det(K_AA|D + r)."""
    pool, targets = problem(7, rows=40, dimension=8, num_targets=5)
    picked = linear(pool, targets, 12, noise_std=0.7)
    features = np.concatenate(oracle.standardize(pool.numpy(), targets.numpy()))
    kernel, anchors, noise = features @ features.T, list(range(40, 45)), 0.49
    prior = kernel[np.ix_(anchors, anchors)] + noise * np.eye(5)
    after = oracle.conditional_covariance(kernel, anchors, picked.indices.tolist(), noise) + noise * np.eye(5)
    total = 0.5 * (np.linalg.slogdet(prior)[1] - np.linalg.slogdet(after)[1])
    assert picked.gains.sum() == pytest.approx(total, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), noise_std=st.floats(1e-2, 1e2))
def test_one_target_and_one_pick_is_the_largest_absolute_cosine(seed, noise_std):
    rng = np.random.default_rng(seed)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pool, target = unit(rng.normal(size=(20, 5))), unit(rng.normal(size=(1, 5)))
    picked = linear(pool, target, 1, noise_std=noise_std, standardize=False)
    assert picked.indices[0] == np.abs(pool @ target[0]).argmax()


def test_every_way_to_hold_the_pool_gives_the_same_picks(tmp_path):
    pool, targets = problem(1, rows=50, dimension=6, num_targets=3, dtype="float16")
    stored = np.lib.format.open_memmap(tmp_path / "pool.npy", mode="w+", dtype=np.float16, shape=(50, 6))
    stored[:] = pool.numpy()
    stored.flush()
    ways = [
        pool,
        pool.numpy(),
        pool.double().tolist(),
        np.load(tmp_path / "pool.npy", mmap_mode="r"),
        pool.requires_grad_(),
    ]
    picks = [linear(way, targets, 10).indices.tolist() for way in ways]
    assert all(other == picks[0] for other in picks)


def test_blocks_do_not_change_the_picks(monkeypatch):
    pool, targets = problem(2, rows=300, dimension=6, num_targets=3, duplicates=200)
    whole = linear(pool, targets, 40)
    monkeypatch.setattr("itl_hf.gp.pool.BLOCK_ROWS", 7)
    blocks = linear(pool, targets, 40)
    assert blocks.indices.tolist() == whole.indices.tolist()
    np.testing.assert_allclose(blocks.gains, whole.gains, rtol=1e-9)


def test_duplicates_go_to_the_lowest_row():
    pool, targets = problem(4, rows=20, dimension=5, num_targets=2)
    picks = linear(torch.cat([pool, pool]), targets, 12).indices.tolist()
    assert all(row < 20 or row - 20 in picks[:place] for place, row in enumerate(picks))


def test_with_replacement_a_row_may_come_back_and_without_it_all_rows_come_once():
    pool = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0]])
    assert (
        linear(pool, target, 4, noise_std=1.0, constraints=SelectionConstraints(replace=True), standardize=False)
        .indices.tolist()
        .count(0)
        > 1
    )
    assert sorted(linear(pool, target, 3, noise_std=1.0).indices) == [0, 1, 2]


def test_auto_noise_is_picks_per_target_direction():
    pool, _ = problem(5, rows=60, dimension=6, num_targets=1)
    targets = 3 * torch.eye(6)[:4].double()
    picked = linear(pool, targets, 20, standardize=False)
    assert picked.record.noise_std == pytest.approx(math.sqrt(20 / 4))
    assert picked.record.effective_rank == pytest.approx(4)
    assert "auto" in picked.record.noise_rule
    assert picked.record.target_noise_std == picked.record.noise_std


def test_cosine_is_the_highest_mean_cosine_similarity():
    pool, targets = (rows.numpy() for rows in problem(6, rows=40, dimension=6, num_targets=5, duplicates=10))
    prepared, anchors = oracle.standardize(pool, targets)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.argsort(-(unit(prepared) @ unit(anchors).T).mean(1).round(12), kind="stable")[:8]
    assert linear(pool, targets, 8, acquisition="cosine").indices.tolist() == expected.tolist()


def test_random_depends_on_its_seed_alone():
    pool, targets = problem(6, rows=40, dimension=6, num_targets=5)
    torch.manual_seed(1)
    first = linear(pool, targets, 8, acquisition="random", seed=3).indices.tolist()
    torch.manual_seed(2)
    assert linear(pool, targets, 8, acquisition=Random(seed=3)).indices.tolist() == first
    assert linear(pool, targets, 8, acquisition="random", seed=4).indices.tolist() != first
    assert len(set(first)) == 8


BAD = {
    "nothing but NaN": (dict(pool=[[0.0, float("nan")], [float("inf"), 0.0]]), "row 0 of `pool` and 1 more hold NaN"),
    "one row beside NaN": (dict(pool=[[0.0, 1.0], [float("nan"), 0.0]]), "row 1 of `pool` holds NaN"),
    "infinity in the targets": (dict(targets=[[float("inf"), 1.0]]), "row 0 of `targets`"),
    "different widths": (dict(targets=[[1.0]]), "2 features and `targets` rows 1"),
    "empty pool": (dict(pool=np.zeros((0, 2))), "`pool` is empty"),
    "empty targets": (dict(targets=np.zeros((0, 2))), "`targets` is empty"),
    "a vector": (dict(targets=np.zeros(2)), "`targets` must be a matrix"),
    "integers": (dict(pool=np.zeros((3, 2), dtype=np.int64)), "`pool` must hold floats"),
    "too many picks": (dict(num_examples=3), "num_examples=3 is more than the 2 rows"),
    "no picks": (dict(num_examples=0), "num_examples must be"),
    "half a pick": (dict(num_examples=1.5), "num_examples must be"),
    "negative noise": (dict(noise_std=-1.0), "noise_std must be positive"),
    "zero noise": (dict(noise_std=0.0), "noise_std must be positive"),
    "noise that is no number": (dict(noise_std="large"), "noise_std must be positive"),
    "negative target noise": (dict(acquisition=ITL(target_noise_std=-0.1)), "target_noise_std must be 0 or positive"),
    "unknown acquisition": (
        dict(acquisition="itll"),
        "unknown acquisition 'itll'; known: badge, balanced_round_robin, bm25",
    ),
    "unknown kernel": (dict(kernel="cubic"), "unknown kernel 'cubic'"),
    "noise said twice": (dict(acquisition=ITL(noise_std=1.0), noise_std=2.0), "noise_std: set on ITL"),
    "equal rows": (dict(pool=[[1.0, 1.0], [1.0, 1.0]]), "all rows of `pool` are the same"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name(changes, message):
    good = dict(pool=[[0.0, 1.0], [1.0, 0.0]], targets=[[1.0, 1.0]], num_examples=1)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        linear(**{**good, **changes})
