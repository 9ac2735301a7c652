"""Brute force in float64: dense covariance matrices, conditioned from scratch at every pick. Slow, short, and
independent of itl_hf."""

from __future__ import annotations

import numpy as np

TIE = 1e-9


def conditional_covariance(kernel, queries, observed, noise_variance):
    """Covariance of f(queries) given noisy observations at `observed`, indices into `kernel`."""
    prior = kernel[np.ix_(queries, queries)]
    if len(observed) == 0:
        return prior
    gram = kernel[np.ix_(observed, observed)] + noise_variance * np.eye(len(observed))
    cross = kernel[np.ix_(observed, queries)]
    return prior - cross.T @ np.linalg.solve(gram, cross)


def information_gain(kernel, row, targets, picks, noise_variance, target_noise_variance):
    """I(y_row; y_targets | y_picks) in nats: how much of the row's variance the targets' values would explain."""
    joint = conditional_covariance(kernel, [row, *targets], picks, noise_variance)
    cross, between = joint[0, 1:], joint[1:, 1:]
    if target_noise_variance == 0:
        explained = cross @ np.linalg.pinv(between, rcond=1e-12, hermitian=True) @ cross
    else:
        explained = cross @ np.linalg.solve(between + target_noise_variance * np.eye(len(targets)), cross)
    return -0.5 * np.log1p(-explained / (joint[0, 0] + noise_variance))


def information_gain_by_entropies(kernel, row, targets, picks, noise_variance, target_noise_variance):
    """The same number from the other side, H(y_targets | picks) - H(y_targets | picks, y_row), by log-determinants."""
    noise = target_noise_variance * np.eye(len(targets))
    before = conditional_covariance(kernel, targets, picks, noise_variance) + noise
    after = conditional_covariance(kernel, targets, [*picks, row], noise_variance) + noise
    return 0.5 * (np.linalg.slogdet(before)[1] - np.linalg.slogdet(after)[1])


def greedy_itl(pool, targets, num_examples, noise_std, target_noise_std, replace=False):
    """(picks, gains, target variances (n + 1, m)) of exact greedy; ties to the lowest row number."""
    features = np.concatenate([pool, targets]).astype(np.float64)
    kernel = features @ features.T
    anchors = list(range(len(pool), len(features)))
    picks, gains = [], []
    variances = [np.diag(conditional_covariance(kernel, anchors, [], noise_std**2))]
    for _ in range(num_examples):
        rows = [row for row in range(len(pool)) if replace or row not in picks]
        scores = np.array(
            [information_gain(kernel, row, anchors, picks, noise_std**2, target_noise_std**2) for row in rows]
        )
        slack = TIE * max(abs(scores.max()), 0) + 1e-14 * np.diag(kernel).max() / noise_std**2
        best = rows[int(np.flatnonzero(scores >= scores.max() - slack)[0])]
        picks.append(best)
        gains.append(scores[rows.index(best)])
        variances.append(np.diag(conditional_covariance(kernel, anchors, picks, noise_std**2)))
    return picks, np.array(gains), np.array(variances)


def standardize(pool, targets):
    """Both arrays centred by the pool's mean, every dimension to the pool's unit variance, every row to norm 1."""
    pool, targets = pool.astype(np.float64), targets.astype(np.float64)
    mean, deviation = pool.mean(0), pool.std(0)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit((pool - mean) / deviation), unit((targets - mean) / deviation)
