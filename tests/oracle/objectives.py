"""Every objective by brute force: covariance matrices conditioned from scratch at every pick, float64."""

from __future__ import annotations

import numpy as np

from tests.oracle.gaussian_process import TIE, conditional_covariance, information_gain


def vtl(kernel, row, targets, picks, noise, target_noise):
    """Fall of the targets' total variance, by conditioning on the row as well."""
    before = np.trace(conditional_covariance(kernel, targets, picks, noise))
    return before - np.trace(conditional_covariance(kernel, targets, [*picks, row], noise))


def mean_marginal_itl(kernel, row, targets, picks, noise, target_noise):
    """Mean over targets of the information between the row's answer and that target's alone."""
    return np.mean([information_gain(kernel, row, [target], picks, noise, target_noise) for target in targets])


def ctl(kernel, row, targets, picks, noise, target_noise):
    """Mean posterior correlation."""
    joint = conditional_covariance(kernel, [row, *targets], picks, noise)
    deviations = np.sqrt(np.diag(joint))
    return np.mean(joint[0, 1:] / (deviations[0] * deviations[1:]))


def undirected(kernel, row, targets, picks, noise, target_noise):
    """Information between the row's answer and the whole function."""
    return 0.5 * np.log1p(conditional_covariance(kernel, [row], picks, noise)[0, 0] / noise)


OBJECTIVES = {
    "itl": information_gain,
    "vtl": vtl,
    "mean_marginal_itl": mean_marginal_itl,
    "ctl": ctl,
    "undirected": undirected,
}


def greedy(objective, kernel, rows, targets, num_examples, noise_std, target_noise_std, known=()):
    """(picks, gains) of exact greedy over row numbers `rows` of a kernel matrix; ties to the lowest row number."""
    score = OBJECTIVES[objective]
    picks, gains = list(known), []
    for _ in range(num_examples):
        free = [row for row in rows if row not in picks]
        scores = np.array([score(kernel, row, targets, picks, noise_std**2, target_noise_std**2) for row in free])
        best = free[int(np.flatnonzero(scores >= scores.max() - TIE * abs(scores.max()) - 1e-11)[0])]
        picks.append(best)
        gains.append(scores[free.index(best)])
    return picks[len(known) :], np.array(gains)
