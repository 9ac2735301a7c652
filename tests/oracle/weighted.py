"""Every objective by brute force where rows differ in quality and targets in weight: dense matrices with a noise of
their own for each row and each target, conditioned from scratch at every pick."""

from __future__ import annotations

import numpy as np

TIE = 1e-9


def conditional(kernel, queries, observed, noise):
    """Covariance of f(queries) given answers at `observed`, with the noise variance of each row of the kernel."""
    prior = kernel[np.ix_(queries, queries)]
    if len(observed) == 0:
        return prior
    cross = kernel[np.ix_(observed, queries)]
    return prior - cross.T @ np.linalg.solve(kernel[np.ix_(observed, observed)] + np.diag(noise[observed]), cross)


def information(joint, answer_noise, value_noise):
    """Nats between the first row's answer and the values of the others, of a joint covariance."""
    cross, between = joint[0, 1:], joint[1:, 1:] + np.diag(value_noise)
    explained = cross @ np.linalg.pinv(between, rcond=1e-12, hermitian=True) @ cross
    return -0.5 * np.log1p(-explained / (joint[0, 0] + answer_noise))


def score(objective, kernel, row, targets, picks, noise, noise_variance, target_noise_variance, weights):
    """The objective's value of one row."""
    joint = conditional(kernel, [row, *targets], picks, noise)
    if objective == "itl":
        return information(joint, noise[row], target_noise_variance / weights)
    if objective == "undirected":
        return 0.5 * np.log1p(joint[0, 0] / noise[row])
    if objective == "vtl":
        after = conditional(kernel, targets, [*picks, row], noise)
        return weights @ (np.diag(joint)[1:] - np.diag(after))
    if objective == "mean_marginal_itl":
        each = [
            information(joint[np.ix_([0, place], [0, place])], noise[row], np.array([target_noise_variance]))
            for place in range(1, len(joint))
        ]
        return np.average(each, weights=weights)
    assert objective == "ctl"
    variance = joint[0, 0] + noise[row] - noise_variance
    return np.average(joint[0, 1:] / np.sqrt(variance * np.diag(joint)[1:]), weights=weights)


def greedy(objective, kernel, num_rows, num_picks, noise_std, target_noise_std, quality, weights, known=(), free=None):
    """(picks, gains) of exact greedy; the kernel matrix holds the pool, then the targets; ties to the lowest number.

    `free(row, picks)` says whether a row may be picked.
    """
    targets = list(range(num_rows, len(kernel)))
    noise = noise_std**2 / np.concatenate([quality, np.ones(len(targets))])
    picks, gains = list(known), []
    for _ in range(num_picks):
        rows = [
            row for row in range(num_rows) if (row not in picks if free is None else free(row, picks[len(known) :]))
        ]
        options = (targets, picks, noise, noise_std**2, target_noise_std**2, weights)
        scores = np.array([score(objective, kernel, row, *options) for row in rows])
        best = int(np.flatnonzero(scores >= scores.max() - TIE * abs(scores.max()) - 1e-11)[0])
        picks.append(rows[best])
        gains.append(scores[best])
    return picks[len(known) :], np.array(gains)


def target_variance(kernel, num_rows, picks, noise_std, quality):
    """(n + 1, m), variance of the targets after 0..n picks."""
    targets = list(range(num_rows, len(kernel)))
    noise = noise_std**2 / np.concatenate([quality, np.ones(len(targets))])
    return np.array([np.diag(conditional(kernel, targets, picks[:count], noise)) for count in range(len(picks) + 1)])
