"""Selecting again without the rows that a person dropped, at once: features are stored, and kernel, noise and limits
are those on record.

What stays as it was measured with all rows: the floor under each target's variance. Dropping rows can only raise it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.gp.kernels import RBF, Kernel, Laplace
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.acquisitions import ACQUISITIONS, Acquisition
from itl_hf.selection.constraints import StopWhen
from itl_hf.selection.protocol import texts_for
from itl_hf.selection.select_rows import RowSelection, select_rows

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection

#: Label of dropped rows among the groups; no source is called so.
DROPPED = "\x00dropped"
#: Rows that an unknown projection is fitted on, for picks that the map's sample does not hold.
FIT_ROWS = 4096


def select_again(explored: ExplorerData, dropped: Collection[int], num_examples: int | None = None) -> Selection:
    """The selection that the same settings make of the pool without some rows.

    Args:
        explored (`ExplorerData`):
            With pool and features.
        dropped (`Collection[int]`):
            Row numbers of the pool; rows of equal text are dropped with them.
        num_examples (`int`, *optional*):
            Rows to pick; as many as before if left out.

    Raises:
        `ValueError`: Pool or features are not at hand, the record does not say enough, or too few rows are left.
    """
    selection, pool = explored.selection, explored.pool
    if explored.obstacle or pool is None or explored.pool_features is None or explored.target_features is None:
        raise ValueError(explored.obstacle or "pool or features are not at hand")
    record = selection.record
    acquisition = _acquisition(record)
    closed = _closed(explored, dropped)
    count = len(selection) if num_examples is None else int(num_examples)
    if count > len(pool) - int(closed.sum()) and not record.get("replace"):
        raise ValueError(f"only {len(pool) - int(closed.sum()):,} rows are left to pick {count:,} from")
    rows = select_rows(
        explored.pool_features,
        explored.target_features,
        count,
        acquisition=acquisition,
        kernel=recorded_kernel(record),
        standardize=recorded_standardization(record),
        replace=bool(record.get("replace")),
        **texts_for(acquisition, pool, selection.targets),
        **_limits(explored, closed),
    )
    return _assembled(explored, rows, closed)


def check_record(record: Mapping[str, Any]) -> None:
    """Raises `ValueError`, in words that end a sentence, where a record does not say enough to select again."""
    _acquisition(record)
    recorded_kernel(record)
    recorded_standardization(record)
    if record.get("already_selected"):
        raise ValueError("it started from rows that the model was trained on before, and the record only counts them")
    if any(value is None for value in (record.get("limits") or {}).values()):
        raise ValueError("its costs or groups were given as numbers, which the record does not hold")


def _acquisition(record: Mapping[str, Any]) -> Acquisition:
    """The acquisition of the record, with the noise as it was found."""
    kind: Any = ACQUISITIONS.get(str(record.get("acquisition")))
    if kind is None:
        raise ValueError(f"its acquisition {record.get('acquisition')!r} is not one of this package")
    asked = record.get("asked") or {}
    options = {one.name: asked[one.name] for one in dataclasses.fields(kind) if one.init and one.name in asked}
    if any(isinstance(value, str) and "sha256" in value for value in options.values()):
        raise ValueError("options of its acquisition are too long for the record")
    noise = {name: record[name] for name in ("noise_std", "target_noise_std") if name in record}
    chosen: Acquisition = kind(**options | noise)
    return chosen


def recorded_kernel(record: Mapping[str, Any]) -> str | Kernel:
    """The kernel of a record, or `ValueError`."""
    name = str(record.get("kernel"))
    if name in ("linear", "cosine"):
        return name
    if name not in ("rbf", "laplace"):
        raise ValueError(f"the record does not hold all of its kernel ({name})")
    kind = RBF if name == "rbf" else Laplace
    return kind(record["lengthscale"], on=record["on"])


def recorded_standardization(record: Mapping[str, Any]) -> bool | Standardization:
    """The preparation of a record, or `ValueError`."""
    name = str(record.get("standardize", "none"))
    if "(" in name:
        raise ValueError("its features are a weighted sum, and the record rounds the weights")
    return False if name == "none" else Standardization.parse(name)


def _closed(explored: ExplorerData, dropped: Collection[int]) -> np.ndarray:
    """Which rows may not be picked, (N,) bool."""
    numbers = np.asarray(sorted(dropped), dtype=np.int64)
    if explored.equal is not None:
        return np.isin(explored.equal, explored.equal[numbers])
    closed = np.zeros(explored.selection.pool_size, dtype=bool)
    closed[numbers] = True
    return closed


def _limits(explored: ExplorerData, closed: np.ndarray) -> dict[str, Any]:
    """Limits on record, and a share of none for the dropped rows."""
    asked, pool = dict(explored.selection.record.get("limits") or {}), explored.pool
    assert pool is not None
    if "costs" in asked:
        asked["costs"] = pool[asked["costs"]][:]
    if "stop_when" in asked:
        asked["stop_when"] = StopWhen(**asked["stop_when"])
    if closed.any():
        labels = list(pool[asked["groups"]][:]) if "groups" in asked else ["kept"] * len(pool)
        shares = asked.get("group_shares", {})
        if isinstance(shares, int | float):
            shares = dict.fromkeys({label for label, out in zip(labels, closed, strict=True) if not out}, (0.0, shares))
        asked["groups"] = [DROPPED if out else label for label, out in zip(labels, closed, strict=True)]
        asked["group_shares"] = {**shares, DROPPED: (0.0, 0.0)}
    elif "groups" in asked:
        asked["groups"] = pool[asked["groups"]][:]
    return asked


def _assembled(explored: ExplorerData, rows: RowSelection, closed: np.ndarray) -> Selection:
    """A selection on the map of the first one."""
    from itl_hf.selection.result.assemble import picked_rows

    before, pool = explored.selection, explored.pool
    assert pool is not None
    left = rows.target_variance[-1]
    limits = {**(before.record.get("pool_limits") or {}), "measured_before_dropping": int(closed.sum())}
    # Nobody has looked for copies among these picks.
    kept = {name: value for name, value in before.record.items() if name != "screening"}
    record = kept | rows.record | {"pool_limits": limits, "dropped_rows": np.flatnonzero(closed).tolist()}
    return replace(
        before,
        dataset=picked_rows(pool, rows),
        indices=rows.indices,
        gains=rows.gains,
        target_variance=rows.target_variance,
        irreducible=np.minimum(before.irreducible, left),
        whole_pool=np.minimum(before.whole_pool, left),
        record=record,
        layout=replace(before.layout, picks=_places(before, rows)),
        more=None,
        features=None,
    )


def _places(before: Selection, rows: RowSelection) -> np.ndarray:
    """(n, 2): where the map has these rows; a row that its sample lacks is projected as the sample was."""
    layout = before.layout
    places = np.searchsorted(layout.pool_rows, rows.indices).clip(max=len(layout.pool_rows) - 1)
    known = layout.pool_rows[places] == rows.indices
    found: np.ndarray = layout.pool[places].copy()
    if not known.all():
        sample = np.linspace(0, len(layout.pool) - 1, min(FIT_ROWS, len(layout.pool))).astype(np.int64)
        features = rows.pool.rows(layout.pool_rows[sample].tolist()).numpy()  # (S, d)
        strangers = rows.pool.rows(rows.indices[~known].tolist()).numpy()
        if layout.method != "pca":  # UMAP's map is no formula: beside the nearest row that is drawn
            found[~known] = layout.pool[sample[(strangers @ features.T).argmax(1)]]
            return found
        centre = features.mean(0)
        # The map is affine in prepared features, so that least squares give it back.
        axes, *_ = np.linalg.lstsq(features - centre, layout.pool[sample] - layout.pool[sample].mean(0), rcond=None)
        found[~known] = (strangers - centre) @ axes + layout.pool[sample].mean(0)
    return found
