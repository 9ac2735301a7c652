"""Every kernel and objective in 80 decimal digits, with mpmath: what the picks of 64-bit numbers are compared with.

Rows are taken as the exact values of their 64-bit features. Slow and short: tens of rows.
"""

from __future__ import annotations

from mpmath import mp

mp.dps = 80


def dot(left, right):
    """Inner product."""
    return mp.fsum(a * b for a, b in zip(left, right, strict=True))


def cosine(left, right):
    """Cosine; 0 for a row of zeros."""
    norms = mp.sqrt(dot(left, left) * dot(right, right))
    return dot(left, right) / norms if norms else mp.mpf(0)


def distance(left, right):
    """Euclidean distance."""
    return mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(left, right, strict=True)))


def unit(row):
    """The row with norm 1."""
    norm = mp.sqrt(dot(row, row))
    return [value / norm for value in row]


#: By the names of `tests/search/kernels.py`.
KERNELS = {
    "linear": dot,
    "cosine": cosine,
    "rbf": lambda x, y: mp.exp((cosine(x, y) - 1) / mp.mpf(0.4)),
    "rbf distance": lambda x, y: mp.exp(-(distance(x, y) ** 2) / 2),
    "exponential cosine": lambda x, y: mp.expm1(cosine(x, y) / mp.mpf(0.6)) / mp.expm1(1 / mp.mpf(0.6)),
    "laplace": lambda x, y: mp.exp(-distance(unit(x), unit(y)) / mp.mpf(0.8)),
    "sum": lambda x, y: mp.mpf(0.5) * dot(x, y) + 2 * mp.exp((cosine(x, y) - 1) / mp.mpf(0.3)),
    "callable": lambda x, y: (1 + dot(x, y)) ** 2,
}


def gram(kernel, rows):
    """Kernel matrix, a list of lists."""
    exact_rows = [[mp.mpf(float(value)) for value in row] for row in rows]
    return [[KERNELS[kernel](x, y) for y in exact_rows] for x in exact_rows]


def condition(covariance, row, noise_variance):
    """Covariance given an observation at `row`; nothing changes where it is known already."""
    pivot = covariance[row][row] + noise_variance
    if pivot < mp.mpf(10) ** -60 * max(covariance[i][i] for i in range(len(covariance))):
        return covariance
    column = [line[row] / pivot for line in covariance]
    return [
        [value - column[i] * covariance[row][j] for j, value in enumerate(line)] for i, line in enumerate(covariance)
    ]


class Process:
    """The covariance of rows 0..N-1 of the pool and targets N..N+m-1, given picks, with and without the targets."""

    def __init__(self, kernel, pool, targets, noise_std, target_noise_std):
        self.num_rows, self.targets = len(pool), range(len(pool), len(pool) + len(targets))
        self.noise, self.target_noise = mp.mpf(noise_std) ** 2, mp.mpf(target_noise_std) ** 2
        self.prior = self.covariance = gram(kernel, [*pool, *targets])
        self.given_targets = self.prior
        for target in self.targets:
            self.given_targets = condition(self.given_targets, target, self.target_noise)

    def observe(self, row):
        """Adds a pick."""
        self.covariance = condition(self.covariance, row, self.noise)
        self.given_targets = condition(self.given_targets, row, self.noise)


def itl(process, row):
    """Information about the targets, in nats."""
    s, c = process.covariance[row][row], process.given_targets[row][row]
    return mp.log((s + process.noise) / (c + process.noise)) / 2


def vtl(process, row):
    """Fall of the targets' total variance."""
    line = process.covariance[row]
    return mp.fsum(line[target] ** 2 for target in process.targets) / (line[row] + process.noise)


def mean_marginal_itl(process, row):
    """Mean information about a single target."""
    line, terms = process.covariance[row], []
    for target in process.targets:
        target_variance = process.covariance[target][target] + process.target_noise
        terms.append(-mp.log(1 - line[target] ** 2 / ((line[row] + process.noise) * target_variance)) / 2)
    return mp.fsum(terms) / len(process.targets)


def ctl(process, row):
    """Mean posterior correlation."""
    line = process.covariance[row]
    terms = [line[target] / mp.sqrt(line[row] * process.covariance[target][target]) for target in process.targets]
    return mp.fsum(terms) / len(process.targets)


def undirected(process, row):
    """Information about the row's own value."""
    return mp.log(1 + process.covariance[row][row] / process.noise) / 2


OBJECTIVES = {
    "itl": itl,
    "vtl": vtl,
    "mean_marginal_itl": mean_marginal_itl,
    "ctl": ctl,
    "undirected": undirected,
}


def shortfalls(process, objective, picks, replace=False):
    """By which share the gain of each pick lies below that of the best row at its step, given the picks before it."""
    found, score = [], OBJECTIVES[objective]
    for position, pick in enumerate(picks):
        taken = () if replace else picks[:position]
        gains = {row: score(process, row) for row in range(process.num_rows) if row not in taken}
        best = max(gains.values())
        found.append(float((best - gains[pick]) / abs(best)) if best else 0.0)
        process.observe(pick)
    return found
