"""The contents of the report, section by section, as plain values that the templates escape and lay out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.figures import variance_left
from itl_hf.report.gains import gain_name, gain_number, gain_shares, information_text
from itl_hf.report.names import embedder_name, method_name, model_name
from itl_hf.report.svg import sparkline
from itl_hf.report.text import texts
from itl_hf.selection.diagnosis.diagnosis import WORDS, Diagnosis
from itl_hf.selection.diagnosis.notices import Notice
from itl_hf.selection.result.coverage import group_column
from itl_hf.selection.screening.screening import Screening

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.result.selection import Selection

HEADINGS = {
    "contamination": "Targets in the pool",
    "duplicates": "Copies among the picks",
    "shift": "Targets unlike the pool",
    "undirected": "The objective ignores the targets",
    "uncertain": "Picks that rounding may have decided",
    "many_targets": "Targets that stand for all",
    "unusable": "Rows that are never picked",
    "few_picks": "Few picks for each target",
    "negligible": "More picks than needed",
}
MAX_GROUPS = 40
MAX_LISTED = 50
#: A pick is listed with the targets whose variance it lowered most: at most this many, each by at least this share.
MAX_SERVED_TARGETS, MIN_SERVED_SHARE = 3, 0.01
#: Entries of the record that have their own section in the report.
SEPARATE_ENTRIES = ("screening", "coverage")


def facts(selection: Selection, diagnosis: Diagnosis) -> dict[str, Any]:
    """The numbers at the top of the page."""
    record = selection.record
    return {
        "picks": len(selection.indices),
        "pool": selection.pool_size,
        "targets": len(selection.targets),
        "method": method_name(record),
        "kernel": record.kernel_name,
        "weighting": diagnosis.weighting,
        "left": float(np.average(variance_left(selection.target_variance)[-1], weights=record.weights_of_targets)),
        "floor": float(np.average(floors(selection), weights=record.weights_of_targets)),
        "information": information_text(selection),
        "gain": gain_name(record),
        "num_taught": len(diagnosis.of("taught")),
        "num_unreachable": len(diagnosis.out_of_reach),
        "layout": selection.layout.method,
        "features": embedder_name(record),
        "model": model_name(record),
        "span": (record.embedder or {}).get("span", "prompt"),
    }


def floors(selection: Selection) -> np.ndarray:
    """Share of each target's variance that no row of the pool can remove, (m,)."""
    shares = variance_left(np.stack([selection.target_variance[0], selection.irreducible]))  # (2, m)
    return np.asarray(shares[1])


def variance_removed(selection: Selection) -> np.ndarray:
    """Share of each target's variance that each pick removed, (n, m)."""
    return -np.diff(variance_left(selection.target_variance), axis=0)


def targets(selection: Selection, diagnosis: Diagnosis, max_targets: int) -> list[dict[str, Any]]:
    """Lists at most `max_targets` targets, the worst first."""
    left, floor = variance_left(selection.target_variance), floors(selection)  # (n + 1, m), (m,)
    num_nearest = Counter(selection.dataset["itl_nearest_target"])
    best_picks = _largest_shares(variance_removed(selection).T)
    numbers = [target.target for target in diagnosis.worst_first[:max_targets]]
    rows = selection.targets.select(numbers)
    return [
        text
        | {
            "number": number,
            "left": float(left[-1, number]),
            "floor": float(floor[number]),
            "curve": sparkline(left[:, number], float(floor[number])),
            "num_nearest": num_nearest[number],
            "picks": [{"rank": rank + 1, "share": share} for rank, share in best_picks[number]],
            "group": group_of(row),
            "whole_pool": diagnosis.targets[number].whole_pool,
            "reach": diagnosis.targets[number].reach,
            "verdict": WORDS[diagnosis.targets[number].verdict],
            "is_taught": diagnosis.targets[number].verdict in ("taught", "empty"),
        }
        for number, row, text in zip(numbers, rows, texts(rows), strict=True)
    ]


def picks(selection: Selection, max_picks: int) -> list[dict[str, Any]]:
    """Lists the first picks with their text and the targets whose variance each of them lowered most."""
    rows = selection.dataset.select(range(min(max_picks, len(selection.dataset))))
    shares = gain_shares(selection.gains)
    best_targets = _largest_shares(variance_removed(selection)[: len(rows)])
    return [
        text
        | {
            "rank": number + 1,
            "row": row["pool_index"],
            "gain": gain_number(row["itl_gain"], selection.gains),
            "share": float(shares[number]),
            "similarity": row["itl_similarity"],
            "nearest": row["itl_nearest_target"],
            "serves": [{"number": target, "share": share} for target, share in best_targets[number]],
            "group": group_of(row),
        }
        for number, (row, text) in enumerate(zip(rows, texts(rows), strict=True))
    ]


def groups(selection: Selection) -> dict[str, Any] | None:
    """Counts picks, pool and targets by source (dataset, task, ...); `None` if no column names the source."""
    coverage = selection.record.coverage or {}
    column = group_column(selection.dataset.column_names, coverage.get("column"))
    if column is None:
        return None
    pick_counts = _counts(selection.dataset, column)
    target_counts = _counts(selection.targets, column) if column in selection.targets.column_names else None
    pool_counts: Mapping[str, int] = coverage.get("rows", {}) if column == coverage.get("column") else {}
    names = sorted(
        set(pick_counts) | set(target_counts or ()),
        key=lambda name: (-pick_counts[name], -(target_counts or pick_counts)[name], name),
    )
    shares = {
        name: (pick_counts[name] / max(1, len(selection.indices)), pool_counts.get(name, 0) / selection.pool_size)
        for name in names
    }
    largest_share = max((share for pair in shares.values() for share in pair), default=1.0) or 1.0
    rows = [
        {
            "name": name,
            "picks": pick_counts[name],
            "share": shares[name][0],
            "pool": shares[name][1] if name in pool_counts else None,
            "width": shares[name][0] / largest_share,
            "pool_width": shares[name][1] / largest_share,
            "targets": target_counts[name] if target_counts else 0,
        }
        for name in names[:MAX_GROUPS]
    ]
    rest, without_picks = names[MAX_GROUPS:], [name for name in pool_counts if name not in pick_counts]
    return {
        "column": column,
        "rows": rows,
        "with_targets": target_counts is not None,
        "with_pool": bool(pool_counts),
        "rest": len(rest),
        "rest_picks": sum(pick_counts[name] for name in rest),
        "without_picks": len(without_picks),
        "without_picks_share": sum(pool_counts[name] for name in without_picks) / selection.pool_size,
    }


def warnings(selection: Selection, notices: tuple[Notice, ...]) -> list[dict[str, Any]]:
    """Warnings to read before training, each with the rows that it is about."""
    screening = Screening.from_record(selection.record.screening) or Screening()
    details = {"contamination": _copies(screening), "duplicates": _duplicates(screening)}
    return [
        {
            "heading": HEADINGS[notice.kind],
            "text": notice.text,
            "rows": details.get(notice.kind, []),
            "kind": notice.kind,
        }
        for notice in _join_by_kind(notices)
    ]


def provenance(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The entries of the record as pairs of name and value; nested names are joined by dots."""
    items: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if not prefix and key in SEPARATE_ENTRIES:
            continue
        if isinstance(value, Mapping):
            items += provenance(value, f"{name}.")
        else:
            items.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return items


def group_of(row: Mapping[str, Any]) -> str:
    """Name of the row's source, or an empty string."""
    column = group_column(list(row))
    return "" if column is None or row[column] is None else str(row[column])


def _join_by_kind(notices: tuple[Notice, ...]) -> list[Notice]:
    """Joins notices of the same kind into one paragraph."""
    by_kind: dict[str, Notice] = {}
    for notice in notices:
        before = by_kind.get(notice.kind)
        by_kind[notice.kind] = notice if before is None else Notice(notice.kind, f"{before.text} {notice.text}")
    return list(by_kind.values())


def _copies(screening: Screening) -> list[dict[str, Any]]:
    return [
        {"target": copy.target, "row": copy.row, "rank": None if copy.rank is None else copy.rank + 1, "how": copy.how,
         "share": copy.share}
        for copy in screening.copies[:MAX_LISTED]
    ]  # fmt: skip


def _duplicates(screening: Screening) -> list[dict[str, Any]]:
    return [
        {"rank": copy.rank + 1, "of": copy.of + 1, "how": copy.how, "share": copy.share}
        for copy in screening.duplicates[:MAX_LISTED]
    ]


def _largest_shares(shares: np.ndarray) -> list[list[tuple[int, float]]]:
    """For each row, the columns with the largest shares, and these shares, (B, c) -> B lists; omits small shares."""
    order = np.argsort(-shares, axis=1, kind="stable")[:, :MAX_SERVED_TARGETS]
    return [
        [(int(column), float(row[column])) for column in columns if row[column] >= MIN_SERVED_SHARE]
        for row, columns in zip(shares, order, strict=True)
    ]


def _counts(dataset: Dataset, column: str) -> Counter[str]:
    return Counter(str(value) for value in dataset[column])
