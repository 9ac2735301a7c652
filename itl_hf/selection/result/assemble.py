"""From picked row numbers to a `Selection`: the rows, the map, what the pool can teach, copies, provenance."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf.gp.attainable import attainable_variance
from itl_hf.selection.feature_arrays import Features, as_rows
from itl_hf.selection.result.coverage import pool_groups
from itl_hf.selection.result.selection import Selection
from itl_hf.selection.result.umap_layout import LayoutName, layout_of
from itl_hf.selection.screening.screening import screen, warn_of_copies
from itl_hf.selection.select_rows import RowSelection
from itl_hf.version import __version__


@dataclass(frozen=True)
class SelectionInputs:
    """What a selection is made from."""

    pool: Dataset
    targets: Dataset
    pool_features: Features  # (N, d)
    target_features: Features  # (m, d)
    provenance: dict[str, Any]
    layout: LayoutName = "pca"


def assemble(rows: RowSelection, material: SelectionInputs, more: Callable[[int], Selection] | None) -> Selection:
    """The selection that a reader of the result needs; `more` continues it."""
    prepared, gp = rows.pool, rows.gp
    limits = attainable_variance(prepared, gp, include=rows.indices.tolist())
    measured = {
        "rows": limits.rows,
        "exact": limits.exact,
        "pool_effective_rank": limits.pool_rank,
        "usual_reach": limits.usual_reach,
    }
    layout = layout_of(material.layout, prepared, gp.targets, rows.indices.tolist())
    prepared.release()
    screening = screen(material.pool, material.targets, rows.indices.tolist(), limits.nearest.cpu().numpy())
    warn_of_copies(screening)
    found = {
        "pool_limits": measured,
        "screening": screening.to_record(),
        "coverage": pool_groups(material.pool, material.provenance.get("limits", {}).get("groups")),
    }
    return Selection(
        dataset=picked_rows(material.pool, rows),
        targets=material.targets,
        indices=rows.indices,
        gains=rows.gains,
        target_variance=rows.target_variance,
        irreducible=limits.irreducible.numpy(),
        whole_pool=limits.whole_pool.numpy(),
        reach=limits.reach.numpy(),
        pool_size=len(material.pool),
        record=rows.record | material.provenance | found,
        layout=layout,
        features=np.asarray(as_rows(material.pool_features, "pool")[rows.indices]),
        more=more,
    )


def versions() -> dict[str, str]:
    """Versions of what the picks depend on."""
    found = {"itl_hf": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "datasets", "peft"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def picked_rows(pool: Dataset, rows: RowSelection) -> Dataset:
    """The picked rows in their order, with the columns that say why."""
    nearest = rows.similarity.argmax(1)
    columns = {
        "pool_index": rows.indices,
        "itl_rank": np.arange(len(rows)),
        "itl_gain": rows.gains,
        "itl_nearest_target": nearest,
        "itl_similarity": rows.similarity[np.arange(len(rows)), nearest],
    }
    table = pool.select(rows.indices).with_format("arrow")[:]  # few rows: in memory, without files or progress bars
    picked = Dataset(table.replace_schema_metadata(pool.features.arrow_schema.metadata))
    for name, values in columns.items():
        picked = picked.add_column(name, values.tolist())
    return picked
