"""The shortlist by brute force: turns of the targets over all rows, each compared with every row on the list."""

from __future__ import annotations

import numpy as np


def shortlist(pool, targets, size, *, closed=(), earlier=(), cosine=0.995, weights=None):
    """Row numbers in the order in which they are added; `pool` and `targets` are prepared rows of norm 1."""
    similarity = (targets @ pool.T).round(12)
    nearest = [np.argsort(-row, kind="stable").tolist() for row in similarity]
    counts, weights = np.zeros(len(targets)), np.ones(len(targets)) if weights is None else np.asarray(weights)
    rows, copies, is_empty = [], [], np.zeros(len(targets), dtype=bool)
    size = min(size, len(pool) - len(set(closed)))
    while len(rows) < size and not is_empty.all():
        target = int(np.argmin((counts + 0.5) / weights))
        counts[target] += 1
        if is_empty[target]:
            continue
        for row in nearest[target]:
            if row in rows or row in copies or row in closed:
                continue
            if any(pool[row] @ pool[other] > cosine for other in [*rows, *earlier]):
                copies.append(row)
                continue
            rows.append(row)
            break
        else:
            is_empty[target] = True
    return rows + copies[:size]
