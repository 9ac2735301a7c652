"""An index of stored features on disk, by which a shortlist is made without a pass over all rows (FAISS).

The index holds the rows as they are prepared for the selection, each with norm 1, so that its inner products are the
cosines that the exact search compares. It lies beside the features and names their checksum: an index of other features
is refused. Only selections with the same preparation use it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from itl_hf.embedding.store.atomic_files import lock_for_writing, write_atomic
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.stored_features import StoredFeatures
from itl_hf.gp.pool import Pool, spaced_rows
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.feature_arrays import as_rows

INDEX, FACTS = "nearest.faiss", "nearest.json"
FORMAT_VERSION = 1
#: Fewer rows are searched one by one (`Flat`): that is exact and takes less time than to build lists.
FEWEST_LISTED_ROWS = 50_000
#: Rows that the lists are fitted on, for each list.
ROWS_PER_LIST = 64
#: One in so many lists is searched for each target, but at least so many.
LIST_SHARE, FEWEST_LISTS = 16, 16


@dataclass(frozen=True)
class IndexFacts:
    """What an index was made from, beside it as JSON.

    Args:
        kind (`str`):
            The index as FAISS's factory names it, such as `"IVF1000,Flat"`.
        num_lists (`int`):
            Lists that are searched for each target; 0 for `"Flat"`.
        standardization (`str`):
            Preparation of the features.
        rows (`int`):
            N.
        features (`str`):
            Checksum of the features.
        sha256 (`str`):
            Checksum of the file of the index.
    """

    kind: str
    num_lists: int
    standardization: str
    rows: int
    features: str
    sha256: str


def build_index(store: FeatureStore, standardization: Standardization | None, kind: str = "auto") -> IndexFacts:
    """Indexes the features of a finished store; an earlier index there is replaced.

    Args:
        store (`FeatureStore`):
            The features.
        standardization (`Standardization`, *optional*):
            Their preparation in the selections that are to use the index; none if `None`.
        kind (`str`, *optional*, defaults to `"auto"`):
            `"Flat"`, or a name of FAISS's factory that begins with `IVF`. `"auto"` is `Flat` for fewer than 50,000 rows
            and `IVF<lists>,Flat` with 4 sqrt(N) lists for more.

    Raises:
        `ImportError`: If FAISS is not installed.
        `BlockingIOError`: If another run is writing into the store.
        `ValueError`: If the kind is another, or the features cannot be prepared.
    """
    faiss = import_faiss()
    pool = Pool(as_rows(store.features(), "features"), standardization)
    if kind == "auto":
        kind = "Flat" if pool.num_rows < FEWEST_LISTED_ROWS else f"IVF{4 * math.isqrt(pool.num_rows)},Flat"
    if kind != "Flat" and not kind.startswith("IVF"):
        raise ValueError(f"kind must be auto, Flat, or begin with IVF, such as 'IVF1000,PQ64'; got {kind!r}")
    try:
        index = faiss.index_factory(pool.dimension, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(f"FAISS has no index {kind!r} for {pool.dimension} numbers a row: {error}") from None
    num_lists = 0 if kind == "Flat" else int(index.nlist)
    if num_lists:
        sample = spaced_rows(pool.num_rows, ROWS_PER_LIST * num_lists)
        index.train(_unit(pool.rows(sample)))
    for _, rows in pool.blocks(torch.float32):
        index.add(_unit(rows))
    temporary = store.directory / f"{INDEX}.{os.getpid()}.tmp"
    with lock_for_writing(store.directory):
        try:
            faiss.write_index(index, str(temporary))
            os.replace(temporary, store.directory / INDEX)
        finally:
            temporary.unlink(missing_ok=True)
    facts = IndexFacts(
        kind=kind,
        num_lists=min(num_lists, max(FEWEST_LISTS, num_lists // LIST_SHARE)),
        standardization=str(standardization or "none"),
        rows=pool.num_rows,
        features=store.checksum(),
        sha256=_sha256(store.directory / INDEX),
    )
    text = json.dumps({"format": FORMAT_VERSION, **asdict(facts)}, indent=2)
    write_atomic(store.directory / FACTS, text.encode(), checksum=False)
    return facts


def find_index(features: Any, standardization: Standardization | None) -> tuple[Path, IndexFacts] | None:
    """Returns the index beside these features; `None` if there is none for this preparation.

    Args:
        features (`Features`):
            Features of a pool; only those of a store can have an index.
        standardization (`Standardization`, *optional*):
            Their preparation.

    Raises:
        `ValueError`: If the index belongs to other features, or is damaged.
    """
    if not isinstance(features, StoredFeatures):
        return None
    directory = features.store.directory
    if not (directory / FACTS).exists():
        return None
    facts = read_facts(directory)
    if facts.standardization != str(standardization or "none"):
        return None
    if facts.features != features.store.checksum() or facts.rows != len(features):
        raise ValueError(
            f"{directory / INDEX} is an index of other features than those beside it. Run itl-hf index again, or "
            f"delete {INDEX} and {FACTS} there to search without an index"
        )
    try:
        import_faiss()
    except ImportError as error:
        warnings.warn(f"{directory} has an index that is not used: {error}", stacklevel=2)
        return None
    return directory / INDEX, facts


def read_facts(directory: Path) -> IndexFacts:
    """Reads what an index was made from.

    Raises:
        `ValueError`: If the file is damaged, or of another version.
    """
    try:
        entries = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        if entries.pop("format") != FORMAT_VERSION:
            raise ValueError("another version")
        return IndexFacts(**entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{directory / FACTS} is damaged or of another version: run itl-hf index again") from error


def open_index(path: Path, facts: IndexFacts) -> Any:
    """Opens the file of an index.

    Raises:
        `ValueError`: If the file is absent or not the one that was written.
    """
    if not path.exists() or _sha256(path) != facts.sha256:
        raise ValueError(f"{path} is absent or damaged: run itl-hf index again, or delete {FACTS} beside it")
    faiss = import_faiss()
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)


def import_faiss() -> Any:
    """Returns the module of FAISS.

    Raises:
        `ImportError`: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("an index of features needs FAISS: pip install 'itl-hf[faiss]'") from error
    return faiss


def _unit(rows: torch.Tensor) -> Any:
    return torch.nn.functional.normalize(rows.float()).contiguous().cpu().numpy()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
