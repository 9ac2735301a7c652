"""Material for the tests of baselines: a pool with structure, duplicates among its rows, and texts that go with it."""

from __future__ import annotations

import numpy as np
import torch

from itl_hf.selection.registry import resolve_acquisition

NAMES = (
    "random",
    "length_matched_random",
    "cosine",
    "max_similarity",
    "round_robin",
    "balanced_round_robin",
    "information_density",
    "badge",
    "k_center",
    "k_means",
    "less",
    "less_round_robin",
    "gist",
    "unbalanced_transport",
    "loss_drop",
    "dsir",
    "bm25",
)
RAW = ("badge", "less", "less_round_robin", "gist", "unbalanced_transport")
TEXTUAL = ("length_matched_random", "dsir", "bm25")
WORDS = ("river", "stone", "cloud", "window", "garden", "seven", "plus", "apple", "banana", "cherry")


def problem(seed, rows, dimension=8, num_targets=4):
    """(N, d) rows around three centres, of which a tenth repeat another, and (m, d) targets; float64."""
    rng = np.random.default_rng(seed)
    centres = 1.5 * rng.normal(size=(3, dimension))
    draw = lambda count: centres[rng.integers(0, 3, count)] + rng.normal(size=(count, dimension))
    pool, targets = draw(rows), draw(num_targets)
    for _ in range(rows // 10):
        pool[rng.integers(0, rows)] = pool[rng.integers(0, rows)]
    return torch.tensor(pool), torch.tensor(targets)


def acquisition_of(name, pool, **options):
    """The baseline of this name; losses of equal rows are equal."""
    if name == "loss_drop":
        before = 1 + pool.square().mean(1)
        options |= {"before": before.tolist(), "after": (before * (0.5 + 0.5 * pool[:, 0].sigmoid())).tolist()}
    return resolve_acquisition(name, **options)


def texts_of(pool, targets, seed=0):
    """Pairs of a prompt and a completion for every row; equal rows have equal texts."""
    known = {}

    def text(row):
        key = row.numpy().tobytes()
        rng = np.random.default_rng([seed, *row.abs().mul(1e6).long().tolist()])
        if key not in known:
            known[key] = tuple(" ".join(rng.choice(WORDS, rng.integers(2, 25))) for _ in range(2))
        return known[key]

    return {"texts": ([text(row) for row in pool], [text(row) for row in targets])}
