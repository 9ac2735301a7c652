"""What the page says, section by section: plain values, which the template escapes and lays out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.figures import variance_left
from itl_hf.report.svg import sparkline
from itl_hf.report.text import texts
from itl_hf.selection.diagnosis.diagnosis import WORDS, Diagnosis
from itl_hf.selection.diagnosis.notices import Notice
from itl_hf.selection.result.coverage import group_column
from itl_hf.selection.screening.screening import Screening

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.result.selection import Selection

METHODS = {
    "itl": "ITL",
    "vtl": "VTL",
    "ctl": "CTL",
    "mean_marginal_itl": "mean-marginal ITL",
    "cosine": "cosine similarity",
    "max_similarity": "maximum similarity",
    "round_robin": "round-robin (RDS+)",
    "random": "random draw",
    "length_matched_random": "random draw of matched lengths",
    "information_density": "information density",
    "badge": "BADGE",
    "k_center": "k-center",
    "k_means": "k-means",
    "less": "LESS",
    "dsir": "DSIR",
    "bm25": "BM25",
}
HEADS = {
    "contamination": "Targets in the pool",
    "duplicates": "Copies among the picks",
    "undirected": "No direction",
    "negligible": "More picks than needed",
}
MAX_GROUPS = 40
MAX_LISTED = 50
#: Targets that a pick is said to serve: at most so many, those whose variance it lowered by this share at least.
SERVED, SERVED_SHARE = 3, 0.01
#: Parts of the record that have a section of their own.
TOLD_ELSEWHERE = ("screening", "coverage")


def facts(selection: Selection, diagnosis: Diagnosis) -> dict[str, Any]:
    """The numbers of the first lines."""
    record = selection.record
    name = record.acquisition_name
    embedder = record.embedder or {}
    return {
        "picks": len(selection.indices),
        "pool": selection.pool_size,
        "targets": len(selection.targets),
        "method": METHODS.get(name, name),
        "kernel": record.kernel_name,
        "noise": record.noise_std,
        # What stands behind the colon is for the record at the end of the page.
        "rule": record.noise_rule.partition(":")[0],
        "left": float(variance_left(selection.target_variance)[-1].mean()),
        "floor": float(floors(selection).mean()),
        "information": float(np.sum(selection.gains)),
        "hopeless": len(diagnosis.unteachable) + len(diagnosis.far),
        "layout": selection.layout.method,
        "model": Path(str(embedder.get("model", ""))).name or "unknown",
        "span": embedder.get("span", "prompt"),
    }


def floors(selection: Selection) -> np.ndarray:
    """Irreducible share of each target's variance, (m,)."""
    both = variance_left(np.stack([selection.target_variance[0], selection.irreducible]))  # (2, m)
    return np.asarray(both[1])


def lowered(selection: Selection) -> np.ndarray:
    """Share of each target's variance that each pick removed, (n, m)."""
    return -np.diff(variance_left(selection.target_variance), axis=0)


def targets(selection: Selection, diagnosis: Diagnosis, most: int) -> list[dict[str, Any]]:
    """The targets in their order, at most so many; of more, those in trouble and the first of the others."""
    left, floor = variance_left(selection.target_variance), floors(selection)  # (n + 1, m), (m,)
    nearest, best = Counter(selection.dataset["itl_nearest_target"]), _largest(lowered(selection).T)
    troubled = [target.target for target in (*diagnosis.unteachable, *diagnosis.far)]
    shown = sorted(list(dict.fromkeys([*troubled, *range(len(diagnosis.targets))]))[:most])
    rows = selection.targets.select(shown)
    return [
        texts(row)
        | {
            "number": number,
            "left": float(left[-1, number]),
            "floor": float(floor[number]),
            "curve": sparkline(left[:, number], float(floor[number])),
            "nearest": nearest[number],
            "picks": [{"rank": rank + 1, "share": share} for rank, share in best[number]],
            "group": group_of(row),
            "whole_pool": diagnosis.targets[number].whole_pool,
            "reach": diagnosis.targets[number].reach,
            "verdict": WORDS[diagnosis.targets[number].verdict],
            "trouble": diagnosis.targets[number].verdict in ("unteachable", "far"),
        }
        for number, row in zip(shown, rows, strict=True)
    ]


def picks(selection: Selection, most: int) -> list[dict[str, Any]]:
    """The first picks with their text and the targets that each serves."""
    shown = selection.dataset.select(range(min(most, len(selection.dataset))))
    largest = float(np.max(selection.gains, initial=0.0)) or 1.0
    served = _largest(lowered(selection)[: len(shown)])
    return [
        texts(row)
        | {
            "rank": number + 1,
            "row": row["pool_index"],
            "gain": row["itl_gain"],
            "share": min(1.0, max(0.0, row["itl_gain"] / largest)),
            "similarity": row["itl_similarity"],
            "nearest": row["itl_nearest_target"],
            "serves": [{"number": target, "share": share} for target, share in served[number]],
            "group": group_of(row),
        }
        for number, row in enumerate(shown)
    ]


def groups(selection: Selection) -> dict[str, Any] | None:
    """Picks, pool and targets by source, for pools that name one."""
    known = selection.record.coverage or {}
    column = group_column(selection.dataset.column_names, known.get("column"))
    if column is None:
        return None
    picked = _counts(selection.dataset, column)
    asked = _counts(selection.targets, column) if column in selection.targets.column_names else None
    pool: Mapping[str, int] = known.get("rows", {}) if column == known.get("column") else {}
    names = sorted(set(picked) | set(asked or ()), key=lambda name: (-picked[name], -(asked or picked)[name], name))
    shares = {
        name: (picked[name] / max(1, len(selection.indices)), pool.get(name, 0) / selection.pool_size) for name in names
    }
    widest = max((share for pair in shares.values() for share in pair), default=1.0) or 1.0
    rows = [
        {
            "name": name,
            "picks": picked[name],
            "share": shares[name][0],
            "pool": shares[name][1] if name in pool else None,
            "width": shares[name][0] / widest,
            "pool_width": shares[name][1] / widest,
            "targets": asked[name] if asked else 0,
        }
        for name in names[:MAX_GROUPS]
    ]
    rest, unpicked = names[MAX_GROUPS:], [name for name in pool if name not in picked]
    return {
        "column": column,
        "rows": rows,
        "with_targets": asked is not None,
        "with_pool": bool(pool),
        "rest": len(rest),
        "rest_picks": sum(picked[name] for name in rest),
        "unpicked": len(unpicked),
        "unpicked_share": sum(pool[name] for name in unpicked) / selection.pool_size,
    }


def warnings(selection: Selection, notices: tuple[Notice, ...]) -> list[dict[str, Any]]:
    """What to know before training, each with the rows that it is about."""
    screening = Screening.from_record(selection.record.screening) or Screening()
    details = {"contamination": _copies(screening), "duplicates": _duplicates(screening)}
    return [
        {"head": HEADS[notice.kind], "text": notice.text, "rows": details.get(notice.kind, []), "kind": notice.kind}
        for notice in _one_of_each(notices)
    ]


def provenance(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The record, name by name."""
    items: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if not prefix and key in TOLD_ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            items += provenance(value, f"{name}.")
        else:
            items.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return items


def group_of(row: Mapping[str, Any]) -> str:
    """What the row's group is called, or nothing."""
    column = group_column(list(row))
    return "" if column is None or row[column] is None else str(row[column])


def _one_of_each(notices: tuple[Notice, ...]) -> list[Notice]:
    """Two notices of a kind become one paragraph."""
    joined: dict[str, Notice] = {}
    for notice in notices:
        before = joined.get(notice.kind)
        joined[notice.kind] = notice if before is None else Notice(notice.kind, f"{before.text} {notice.text}")
    return list(joined.values())


def _copies(screening: Screening) -> list[dict[str, Any]]:
    return [
        {"target": copy.target, "row": copy.row, "rank": None if copy.rank is None else copy.rank + 1, "how": copy.how,
         "share": copy.share}
        for copy in screening.copies[:MAX_LISTED]
    ]  # fmt: skip


def _duplicates(screening: Screening) -> list[dict[str, Any]]:
    return [
        {"rank": one.rank + 1, "of": one.of + 1, "how": one.how, "share": one.share}
        for one in screening.duplicates[:MAX_LISTED]
    ]


def _largest(shares: np.ndarray) -> list[list[tuple[int, float]]]:
    """For each row the columns with the largest shares, as far as these are worth a word, (B, c) -> B lists."""
    order = np.argsort(-shares, axis=1, kind="stable")[:, :SERVED]
    return [
        [(int(column), float(row[column])) for column in columns if row[column] >= SERVED_SHARE]
        for row, columns in zip(shares, order, strict=True)
    ]


def _counts(dataset: Dataset, column: str) -> Counter[str]:
    return Counter(str(value) for value in dataset[column])
