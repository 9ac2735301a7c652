"""Baselines on gradients and losses against the formulas of their papers, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf import select_rows
from itl_hf.selection.baselines import GIST, LESS, LESSRoundRobin, LossDrop, UnbalancedTransport
from tests.selection.baseline_cases import problem

SEEDS = range(4)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_score(scores, count):
    return np.argsort(-np.round(scores, 10), kind="stable")[:count].tolist()


def picks(given, count, acquisition, **options):
    return select_rows(*given, count, acquisition=acquisition, kernel="linear", **options).indices.tolist()


def rows_of(seed, **sizes):
    """Away from the origin, which centring would undo."""
    return tuple(part + 0.3 for part in problem(seed, 50, **sizes))


@pytest.mark.parametrize("seed", SEEDS)
def test_less_is_the_largest_cosine_of_gradients_as_given(seed):
    rows = rows_of(seed, num_targets=6)
    pool, targets = (part.numpy() for part in rows)
    cosines = unit(pool) @ unit(targets).T
    assert picks(rows, 15, "less") == by_score(cosines.max(1), 15)
    assert picks(rows, 15, "less") == picks(rows, 15, "max_similarity", standardize=False)
    assert picks(rows, 15, "less") != picks(rows, 15, "max_similarity")
    by_task = np.stack([cosines[:, [0, 2, 3]].mean(1), cosines[:, [1, 5]].mean(1), cosines[:, 4]])
    assert picks(rows, 15, LESS(subtasks=["a", "b", "a", "a", "c", "b"])) == by_score(by_task.max(0), 15)


def test_less_adds_up_checkpoints_by_their_learning_rates():
    given = problem(1, 50)
    pool, targets = (part.numpy() for part in given)
    halves = [unit(pool[:, part]) @ unit(targets[:, part]).T for part in (slice(0, 4), slice(4, 8))]
    expected = by_score((2e-5 * halves[0] + 1e-5 * halves[1]).max(1) * 1e5, 15)
    assert picks(given, 15, LESS(learning_rates=[2e-5, 1e-5])) == expected


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("subtasks", [None, ["a", "b", "a", "a", "c", "b"]])
def test_less_in_turns_is_the_best_row_left_for_each(seed, subtasks):
    rows = rows_of(seed, num_targets=6)
    pool, targets = (part.numpy() for part in rows)
    halves = [unit(pool[:, part]) @ unit(targets[:, part]).T for part in (slice(0, 4), slice(4, 8))]
    influence = (2 * halves[0] + halves[1]).round(10)
    if subtasks:
        influence = np.stack([influence[:, [0, 2, 3]].mean(1), influence[:, [1, 5]].mean(1), influence[:, 4]], 1)
    expected = []
    for turn in range(50):
        scores = influence[:, turn % influence.shape[1]].round(9).copy()
        scores[expected] = -np.inf
        expected.append(int(scores.argmax()))
    assert picks(rows, 50, LESSRoundRobin(subtasks=subtasks, learning_rates=(2.0, 1.0))) == expected


def gist_scores(pool, targets, rank, subtasks=None):
    """As in the authors' code: eigenvectors of the targets' Gram matrix, projection G' U / S, cosines, maximum."""
    values, vectors = np.linalg.eigh(targets @ targets.T)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    project = targets.T @ (vectors / np.sqrt(values))
    places = [[number] for number in range(len(targets))] if subtasks is None else subtasks
    anchors = np.stack([(targets @ project)[place].mean(0) for place in places])
    return unit(pool @ project) @ unit(anchors).T


@pytest.mark.parametrize("seed", SEEDS)
def test_gist_is_the_largest_cosine_in_the_subspace_of_the_targets(seed):
    rows = rows_of(seed, num_targets=6)
    pool, targets = (part.numpy() for part in rows)
    for rank in (2, 3, 6):
        assert picks(rows, 20, GIST(rank=rank)) == by_score(gist_scores(pool, targets, rank).max(1), 20)
    by_task = gist_scores(pool, targets, 3, [[0, 2, 3], [1, 5], [4]]).max(1)
    assert picks(rows, 20, GIST(rank=3, subtasks=["a", "b", "a", "a", "c", "b"])) == by_score(by_task, 20)
    shares = np.linalg.svd(targets, compute_uv=False) ** 2
    rank = int(np.searchsorted(np.cumsum(shares) / shares.sum(), 0.9)) + 1
    assert 1 < rank < 6
    assert picks(rows, 20, GIST(explained_variance=0.9)) == picks(rows, 20, GIST(rank=rank))
    assert picks(rows, 20, GIST(rank=6)) != picks(rows, 20, "less")  # eight dimensions: two are left out


def test_gist_leaves_out_what_is_orthogonal_to_all_targets():
    targets = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).double()
    pool = torch.tensor([[0.0, 0.0, 1.0, 2.0], [3.0, 0.1, 9.0, 9.0], [0.3, 0.3, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]])
    given = pool.double(), targets
    assert picks(given, 4, "gist") == [2, 1, 0, 3]  # cosines 1, .9995, 0 (nothing in the subspace), 0
    twice = torch.cat([given[0], given[0]], 1), torch.cat([targets, targets], 1)
    assert picks(twice, 4, GIST(learning_rates=(1.0, 1.0))) == picks(given, 4, "gist")


def transport_masses(similarity, reg, penalty):
    """Column sums of the plan, found by minimising the objective over plans with the right row sums."""
    targets, rows = similarity.shape
    cost = torch.tensor((1 - similarity) / 2)
    logits = (-cost / reg).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=4000, tolerance_grad=1e-14, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )
    plan = lambda: logits.softmax(1) / targets

    def objective():
        optimizer.zero_grad()
        log_plan, received = logits.log_softmax(1) - np.log(targets), plan().sum(0)
        entropy = (plan() * (log_plan + np.log(targets * rows))).sum()
        value = (cost * plan()).sum() + reg * entropy + penalty * (received * (received * rows).log()).sum()
        value = value * rows / penalty  # so that the line search sees differences
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(objective)
    return plan().sum(0).detach().numpy()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("reg", "penalty"), [(0.05, 0.02), (0.2, 0.3), (0.3, 0.003)])
def test_unbalanced_transport_minimises_its_objective(seed, reg, penalty):
    rows = rows_of(seed, num_targets=5)
    pool, targets = (part.numpy() for part in rows)
    masses = transport_masses(unit(targets) @ unit(pool).T, reg, penalty)
    found = UnbalancedTransport(reg=reg, pool_penalty=penalty)
    kernel = torch.tensor((unit(targets) @ unit(pool).T - 1) / (2 * reg))
    shares = found.log_mass([kernel[:, :20], kernel[:, 20:]], 50).softmax(0).numpy()
    np.testing.assert_allclose(shares, masses, rtol=2e-4)
    assert picks(rows, 20, found) == by_score(shares, 20)


def test_unbalanced_transport_as_the_library_iterates():
    """The scaling iterations of POT's `sinkhorn_unbalanced` with the defaults of the paper's code."""
    rows = rows_of(2, num_targets=5)
    pool, targets = (part.numpy() for part in rows)
    halves = [unit(targets[:, part]) @ unit(pool[:, part]).T for part in (slice(0, 4), slice(4, 8))]
    similarity = 0.75 * halves[0] + 0.25 * halves[1]
    a, b = np.full(5, 1 / 5), np.full(50, 1 / 50)
    kernel = np.exp(-(1 - similarity) / 2 / 0.01) * np.outer(a, b)
    u, v = np.ones(5), np.ones(50)
    for _ in range(1000):
        u = a / (kernel @ v)
        v = (b / (kernel.T @ u)) ** (0.0001 / 0.0101)
    masses = (u[:, None] * kernel * v).sum(0)
    assert picks(rows, 50, UnbalancedTransport(learning_rates=(3.0, 1.0))) == by_score(np.log(masses), 50)


def test_unbalanced_transport_does_not_underflow_and_says_if_it_did_not_converge():
    rows = rows_of(0)
    cosines = unit(rows[0].numpy()) @ unit(rows[1].numpy()).T
    assert picks(rows, 1, UnbalancedTransport(reg=1e-5, pool_penalty=1e-9)) in [[row] for row in cosines.argmax(0)]
    with pytest.raises(RuntimeError, match="did not converge in 1 iterations"):
        picks(rows, 1, UnbalancedTransport(max_iterations=1))


def test_loss_drop_is_the_share_of_the_loss_that_is_gone():
    rng = np.random.default_rng(0)
    before, after = rng.uniform(0, 3, 50), rng.uniform(0, 3, 50)
    before[7] = 0.0
    before[20], after[20] = before[3], after[3]
    drop = LossDrop(before=before, after=after)
    assert picks(rows_of(0), 50, drop) == np.argsort(-(before - after) / (before + 1e-8), kind="stable").tolist()
