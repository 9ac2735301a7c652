"""`itl-hf index`: indexes stored features, so that shortlists are made without reading the whole pool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.output import Outcome

if TYPE_CHECKING:
    from itl_hf.embedding.store.feature_store import FeatureStore


def index(
    store: Annotated[Path, typer.Option("--store", help="Folder of features that `itl-hf embed` made.")],
    kind: Annotated[
        str, typer.Option("--kind", help="auto, Flat, or a name of FAISS that begins with IVF: IVF65536,PQ64, ...")
    ] = "auto",
    standardize: Annotated[
        str, typer.Option("--standardize", help="Preparation of the features, as for `itl-hf select`.")
    ] = "auto",
    min_rows: Annotated[int, typer.Option("--min_rows", help="Leave out datasets with fewer rows.")] = 10_000,
    config: ConfigOption = None,
) -> Outcome:
    """Index the features of a store (extra faiss), for --shortlist: it then reads only rows near the targets.

    Which rows are found is approximate, and the record of a selection says so.
    """
    from itl_hf.selection.defaults import resolve_kernel_spec
    from itl_hf.selection.shortlist.index_file import build_index

    preparation: bool | str = {"auto": True, "none": False}.get(standardize, standardize)
    standardization = resolve_kernel_spec("auto", preparation).standardization
    entries: list[dict[str, Any]] = []
    for features in _finished_stores(store, min_rows):
        start_time = time.monotonic()
        facts = build_index(features, standardization, kind)
        seconds = time.monotonic() - start_time
        entries.append(
            {"directory": str(features.directory), "rows": facts.rows, "kind": facts.kind, "seconds": seconds}
        )
    lines = [f"{one['rows']:,} rows as {one['kind']} in {one['seconds']:.1f} s: {one['directory']}" for one in entries]
    return Outcome("\n".join(lines), {"indexes": entries})


def _finished_stores(store: Path, min_rows: int) -> list[FeatureStore]:
    from itl_hf.embedding.store.feature_store import FeatureStore
    from itl_hf.embedding.store.manifest import MANIFEST_NAME

    stores = []
    for manifest in sorted(store.glob(f"*/{MANIFEST_NAME}")):
        try:
            features = FeatureStore.open(manifest.parent)
        except ValueError:  # an embedding that has not ended
            continue
        if features.num_rows >= min_rows:
            stores.append(features)
    if not stores:
        raise ValueError(
            f"{store} holds no finished features of at least {min_rows:,} rows: run itl-hf embed, or give --min_rows"
        )
    return stores
