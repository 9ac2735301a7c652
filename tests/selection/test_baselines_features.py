"""Baselines on features against the formulas of their papers, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf import SelectionConstraints, select_rows
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.selection.baselines import BADGE, InformationDensity, KMeans, LengthMatchedRandom
from itl_hf.selection.baselines.diverse import race
from tests.oracle import gaussian_process as oracle
from tests.selection.baseline_cases import problem

SEEDS = range(4)


def prepared(seed, rows=50, **sizes):
    pool, targets = problem(seed, rows, **sizes)
    return (pool, targets), oracle.standardize(pool.numpy(), targets.numpy())


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_score(scores, count):
    return np.argsort(-np.round(scores, 10), kind="stable")[:count].tolist()


def picks(given, count, acquisition, **options):
    return select_rows(*given, count, acquisition=acquisition, kernel="linear", **options).indices.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_cosine_and_max_similarity(seed):
    given, (rows, targets) = prepared(seed)
    cosines = unit(rows) @ unit(targets).T
    assert picks(given, 20, "cosine") == by_score(cosines.mean(1), 20)
    assert picks(given, 20, "max_similarity") == by_score(cosines.max(1), 20)


@pytest.mark.parametrize("count", [1, 7, 50])
@pytest.mark.parametrize("num_targets", [1, 4, 60])
def test_round_robin_takes_turns(count, num_targets):
    given, (rows, targets) = prepared(0, num_targets=num_targets)
    cosines = (unit(rows) @ unit(targets).T).round(10)
    expected = []
    for turn in range(count):
        scores = cosines[:, turn % num_targets].copy()
        scores[expected] = -np.inf
        expected.append(int(scores.argmax()))
    assert picks(given, count, "round_robin") == expected


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0, 1.0, 1.0]])
def test_balanced_round_robin_shares_the_turns_by_likeness(weights):
    given, (rows, targets) = prepared(0, num_targets=6)
    correlations, own = unit(targets) @ unit(targets).T, np.ones(6) if weights is None else np.array(weights)
    shares = own / (correlations**2 @ own)
    cosines, counts, expected = (unit(rows) @ unit(targets).T).round(10), np.zeros(6), []
    for _ in range(30):
        turn = int(((counts + 0.5) / shares).round(9).argmin())
        counts[turn] += 1
        scores = cosines[:, turn].copy()
        scores[expected] = -np.inf
        expected.append(int(scores.argmax()))
    assert picks(given, 30, "balanced_round_robin", target_weights=weights) == expected


def test_balanced_round_robin_serves_a_rare_kind_of_target_more_often():
    rng = np.random.default_rng(0)
    kinds = np.eye(4)[:2]
    rows = np.concatenate([kind + 0.05 * rng.normal(size=(40, 4)) for kind in kinds])
    targets = np.concatenate([kinds[:1] + 0.05 * rng.normal(size=(18, 4)), kinds[1:] + 0.05 * rng.normal(size=(2, 4))])
    shares = {}
    for name in ("round_robin", "balanced_round_robin"):
        chosen = select_rows(rows, targets, 20, acquisition=name, kernel="linear", standardize=False).indices
        shares[name] = int((chosen >= 40).sum())
    assert shares == {"round_robin": 2, "balanced_round_robin": 8}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_information_density_is_entropy_times_similarity(seed, beta):
    given, (rows, targets) = prepared(seed)
    features, noise = np.concatenate([rows, targets]), 0.36
    kernel = features @ features.T
    weight = (unit(rows) @ unit(targets).T).mean(1).clip(0) ** beta
    expected = []
    for _ in range(12):
        variance = np.diag(oracle.conditional_covariance(kernel, list(range(50)), expected, noise))
        scores = (0.5 * np.log1p(variance / noise) * weight).round(12)
        scores[expected] = -np.inf
        expected.append(int(scores.argmax()))
    assert picks(given, 12, InformationDensity(beta=beta, noise_std=0.6)) == expected


def test_information_density_is_exact_where_a_pass_speculates(monkeypatch):
    monkeypatch.setattr("itl_hf.search.speculative.FEWEST_CANDIDATES", 16)
    for seed in SEEDS:
        test_information_density_is_entropy_times_similarity(seed, 1.0)


def greedy_k_center(rows, count, centres):
    if not centres:
        centres = [int(np.square(rows - rows.mean(0)).sum(1).round(10).argmin())]
    found = list(centres)
    while len(found) < count:
        distances = np.square(rows[:, None] - rows[found]).sum(2).min(1).round(10)
        found.append(int(distances.argmax()))
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("most_single", [1, 4096])
def test_k_center_is_the_farthest_row_each_time(seed, most_single, monkeypatch):
    monkeypatch.setattr("itl_hf.selection.baselines.farthest.MOST_SINGLE", most_single)
    monkeypatch.setattr("itl_hf.selection.baselines.farthest.AT_ONCE", 3)
    given, (rows, _) = prepared(seed)
    assert picks(given, 15, "k_center") == greedy_k_center(rows, 15, [])
    assert picks(given, 15, "k_center", already_selected=[4, 30]) == greedy_k_center(rows, 17, [4, 30])[2:]


def test_k_center_reads_a_large_pool_a_few_times(monkeypatch):
    read = []
    blocks = Pool.blocks
    monkeypatch.setattr(Pool, "blocks", lambda self, *dtype: read.append(0) or blocks(self, *dtype))
    rows = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    select_rows(rows, rows[:2], 100, acquisition="k_center")
    assert len(read) < 12  # 100 picks


@pytest.mark.parametrize("seed", SEEDS)
def test_badge_draws_by_squared_distance_with_its_own_randomness(seed):
    """The exponential race is a way to draw with probability D^2 / sum D^2; here with the same times."""
    given, _ = prepared(seed)
    rows = given[0].numpy()  # as given, neither centred nor scaled
    found = [int(np.square(rows).sum(1).round(9).argmax())]
    longest = np.square(rows).sum(1)
    assert longest[picks(given, 1, BADGE(seed=seed))[0]] == pytest.approx(longest.max())
    found = picks(given, 1, BADGE(seed=seed))
    while len(found) < 15:
        distances = np.square(rows[:, None] - rows[found]).sum(2).min(1)
        found.append(int((distances * race(seed, len(found), 50).numpy()).argmax()))
    assert picks(given, 15, BADGE(seed=seed)) == found
    assert picks(given, 15, BADGE(seed=seed, features="prepared")) != found


def test_races_are_won_in_proportion_to_the_rates():
    rates = torch.tensor([1.0, 2.0, 5.0, 0.0], dtype=torch.float64)
    draws = [int((race(0, draw, 4) * rates).argmax()) for draw in range(4000)]
    shares = np.bincount(draws, minlength=4) / 4000
    np.testing.assert_allclose(shares, [1 / 8, 2 / 8, 5 / 8, 0], atol=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_k_means_ends_in_a_fixed_point_and_takes_the_nearest_rows(seed):
    given, (rows, _) = prepared(seed)
    centres, sizes = (
        part.numpy() for part in KMeans(seed=seed, max_iterations=100).cluster(Pool(torch.tensor(rows)), 6)
    )
    member = np.square(rows[:, None] - centres).sum(2).argmin(1)
    np.testing.assert_allclose([rows[member == cluster].mean(0) for cluster in range(6)], centres, atol=1e-9)
    assert np.bincount(member, minlength=6).tolist() == sizes.tolist()
    order = np.argsort(-sizes, kind="stable")
    nearest = [int(np.square(rows - centres[cluster]).sum(1).round(10).argmin()) for cluster in order]
    assert len(set(nearest)) == 6
    assert picks(given, 6, KMeans(seed=seed, max_iterations=100)) == nearest


def test_k_means_finds_clusters_that_are_there():
    rng = np.random.default_rng(0)
    centres = 20 * rng.normal(size=(5, 6))
    labels = rng.integers(0, 5, 200)
    rows = centres[labels] + rng.normal(size=(200, 6))
    assert sorted(labels[picks((rows, rows[:3]), 5, "k_means")]) == list(range(5))


def test_length_matched_rows_are_as_long_as_those_of_the_reference():
    pool, targets = problem(0, 600)
    rng = np.random.default_rng(0)
    lengths = rng.permutation(600) + 1.0
    like = np.argsort(lengths)[-60:][::-1]  # the longest tenth, so strata of a twentieth hold 30 rows each
    options = dict(like=like.tolist(), lengths=lengths)
    found = np.array(picks((pool, targets), 40, LengthMatchedRandom(**options)))
    stratum = lambda rows: np.searchsorted(np.quantile(lengths, np.linspace(0, 1, 21)[1:-1]), lengths[rows])
    assert stratum(found[:30]).tolist() == stratum(like[:30]).tolist()
    assert stratum(found).tolist() == stratum(like[:40]).tolist()
    assert found.tolist() != picks((pool, targets), 40, LengthMatchedRandom(**options, seed=1))
    # Within a stratum every row is as likely as any other.
    often = np.zeros(600)
    for seed in range(300):
        drawn = LengthMatchedRandom(like=[int(lengths.argmax())], lengths=lengths, seed=seed)
        often[picks((pool[:, :2], targets[:, :2]), 1, drawn)] += 1
    longest = np.sort(often[lengths > 570])
    assert longest.sum() == 300
    assert longest.max() <= 25  # ten are expected


def test_length_matching_follows_itl_and_goes_to_the_nearest_stratum():
    pool, targets = problem(0, 60)
    lengths = np.arange(60.0)
    like_itl = LengthMatchedRandom(lengths=lengths, strata=6, noise_std=0.8)
    reference = picks((pool, targets), 10, "itl", noise_std=0.8)
    found = picks((pool, targets), 10, like_itl)
    assert [row // 10 for row in found] == [row // 10 for row in reference]
    same = picks((pool, targets), 10, LengthMatchedRandom(like=reference, lengths=lengths, strata=6, noise_std=0.8))
    assert found == same
    last = picks((pool, targets), 25, LengthMatchedRandom(like=[59], lengths=lengths, strata=6))
    assert [row // 10 for row in last] == [5] * 10 + [4] * 10 + [3] * 5


def test_length_matching_by_costs_leaves_the_budget_to_the_picks():
    pool, targets = problem(0, 60)
    costs = np.arange(60) % 10 + 1.0
    found = select_rows(
        pool,
        targets,
        10,
        acquisition="length_matched_random",
        constraints=SelectionConstraints(costs=costs, token_budget=40),
    )
    assert 30 < costs[found.indices].sum() <= 40


def test_the_setting_of_the_density_keeps_its_bounds():
    """`upper_bound` may never be below the score of a row whose statistics are within the slack."""
    from itl_hf.gp.kernels import Linear
    from itl_hf.selection.baselines.nearest import Density

    density = Density(GaussianProcess(Linear(), torch.eye(3).double(), 0.5, 0.5), 1.0)
    numbers = torch.rand(2, 200, generator=torch.Generator().manual_seed(0)).double()
    slack = torch.full((2, 200), 0.05).double()
    for sign in (1, -1):
        moved = density.score((numbers + sign * slack * torch.rand_like(numbers)).clamp_min(0), 0)
        assert (density.upper_bound(numbers, slack, 0) >= moved).all()
        assert (density.upper_bound(numbers, -slack, 0) <= moved).all()
