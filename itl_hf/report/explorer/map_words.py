"""Labels the regions of the map by words that occur in their rows and seldom elsewhere.

The points are grouped by k-means in the two dimensions of the map. A word's score in a group is the share p of the
group's rows that contain it, times log(p / share of all rows), less for short words: a TF-IDF with groups as documents,
as in BERTopic (Grootendorst, 2022), that counts each row once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.explorer.row_text import pool_rows
from itl_hf.report.text import visible

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData

#: Rows of the map that are read for their words, characters of each, and iterations of k-means.
READ_ROWS, READ_CHARACTERS, ITERATIONS = 4_000, 1_000, 20
#: At most one group for this many rows, and at most this many groups; the page draws those labels that fit.
ROWS_OF_GROUP, MAX_GROUPS = 20, 32
#: Words of a label, the least share of a group's rows that contain one, and how much more frequent it is than in all.
MAX_WORDS, MIN_SHARE, MIN_LIFT = 2, 0.3, 3.0
MEAN_LENGTH = 5
_WORD = re.compile(r"[^\W\d_]{4,24}")


def map_words(data: ExplorerData) -> list[tuple[float, float, str]]:
    """Returns labels with their places on the map, those of the largest groups first; empty without the pool's text."""
    if data.text_rows is None:
        return []
    layout = data.selection.layout
    places = np.unique(np.linspace(0, len(layout.pool) - 1, min(READ_ROWS, len(layout.pool))).astype(np.int64))
    words = [words_of(prompt) for prompt, _ in pool_rows(data.text_rows, layout.pool_rows[places])]
    points = layout.pool[places].astype(np.float64)  # (S, 2)
    groups, centres = grouped_points(points, min(MAX_GROUPS, max(1, len(points) // ROWS_OF_GROUP)))
    sizes = np.bincount(groups, minlength=len(centres))
    labels = distinctive_words(words, groups, len(centres))
    return [
        (float(centres[group, 0]), float(centres[group, 1]), visible(labels[group]))
        for group in np.argsort(-sizes, kind="stable")
        if labels[group]
    ]


def words_of(text: str) -> set[str]:
    """The words of a text in lower case, without numbers and words of up to three letters."""
    return set(_WORD.findall(text[:READ_CHARACTERS].lower()))


def distinctive_words(words: Sequence[set[str]], groups: np.ndarray, num_groups: int) -> list[str]:
    """Returns a label for each group; empty where no word is frequent in the group and rare elsewhere.

    Args:
        words (`Sequence[set[str]]`):
            The words of each row, S sets.
        groups (`np.ndarray`):
            (S,) number of each row's group.
        num_groups (`int`):
            Number of groups.

    Example:
        >>> words = [{"they", "cats"}, {"they", "dogs"}, {"they", "fish"}, {"they", "fish"}]
        >>> distinctive_words(words, np.array([0, 1, 2, 2]), 3)
        ['cats', 'dogs', '']
    """
    counts: list[Counter[str]] = [Counter() for _ in range(num_groups)]
    for row_words, group in zip(words, groups.tolist(), strict=True):
        counts[group].update(row_words)
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    sizes = np.bincount(groups, minlength=num_groups)
    return [_label(count, int(size), total, len(words)) for count, size in zip(counts, sizes, strict=True)]


def _label(count: Counter[str], size: int, total: Counter[str], num_rows: int) -> str:
    scores = {}
    for word, number in count.items():
        share, lift = number / size, number / size * num_rows / total[word]
        if share >= MIN_SHARE and lift >= MIN_LIFT:
            # Short words say less: in most languages they are those of the grammar.
            scores[word] = share * math.log(lift) * len(word) / (len(word) + MEAN_LENGTH)
    best = sorted(scores, key=lambda word: (-scores[word], word))
    return ", ".join(best[:MAX_WORDS])


def grouped_points(points: np.ndarray, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups points by k-means (Lloyd's algorithm), started from points that are far from each other.

    Args:
        points (`np.ndarray`):
            (S, 2) float64.
        num_groups (`int`):
            At most this many groups.

    Returns:
        `tuple`: The (S,) numbers of the groups and their (num_groups, 2) centres.
    """
    centres = _distant_points(points, num_groups)
    groups = np.zeros(len(points), dtype=np.int64)
    for _ in range(ITERATIONS):
        groups = _distances(points, centres).argmin(1)
        sizes = np.bincount(groups, minlength=len(centres))
        sums = np.stack([np.bincount(groups, points[:, axis], len(centres)) for axis in (0, 1)], axis=1)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return groups, centres


def _distant_points(points: np.ndarray, count: int) -> np.ndarray:
    """Points of which each next one is drawn far from those before (k-means++, the same every time)."""
    generator = np.random.default_rng(0)
    chosen = [points[0]]
    nearest = _distances(points, points[:1])[:, 0]
    while len(chosen) < count and nearest.sum() > 0:
        chosen.append(points[generator.choice(len(points), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, _distances(points, chosen[-1][None])[:, 0])
    return np.stack(chosen)


def _distances(points: np.ndarray, centres: np.ndarray) -> Any:
    """Squared distances, (S, 2), (k, 2) -> (S, k)."""
    return ((points[:, None] - centres[None]) ** 2).sum(-1)
