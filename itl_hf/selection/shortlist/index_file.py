"""An index of stored features on disk, by which a shortlist is made without a pass over all rows (FAISS).

The index holds the rows as they are prepared for the selection, each with norm 1, so that its inner products are the
cosines that the exact search compares. It lies beside the features and names their checksum: an index of other features
is refused. Only selections with the same preparation use it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from itl_hf.embedding.embedders.weights_hash import short_hash
from itl_hf.embedding.store.atomic_files import lock_for_writing, write_atomic
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.stored_features import StoredFeatures
from itl_hf.gp.pool import Pool, spaced_rows
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.feature_arrays import as_rows
from itl_hf.selection.shortlist.index_parts import PART_ROWS, IndexParts, unit_rows, write_index

INDEX, FACTS, LISTS = "nearest.faiss", "nearest.json", "nearest.lists"
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
            Checksum of the files of the index.
        lists (`str`, *optional*):
            Name of the file with the lists, where they are a file of their own: those of a large pool.
    """

    kind: str
    num_lists: int
    standardization: str
    rows: int
    features: str
    sha256: str
    lists: str | None = None


def build_index(
    store: FeatureStore, standardization: Standardization | None, kind: str = "auto", part_rows: int = PART_ROWS
) -> IndexFacts:
    """Indexes the features of a finished store; an earlier index there is replaced.

    A pool of more than `part_rows` rows is indexed part by part, in a folder beside the features: a build that was
    killed continues there. Memory is then bounded by a part and by the sample that the lists are fitted on.

    Args:
        store (`FeatureStore`):
            The features.
        standardization (`Standardization`, *optional*):
            Their preparation in the selections that are to use the index; none if `None`.
        kind (`str`, *optional*, defaults to `"auto"`):
            `"Flat"`, or a name of FAISS's factory that begins with `IVF`. `"auto"` is `Flat` for fewer than 50,000 rows
            and `IVF<lists>,Flat` with 4 sqrt(N) lists for more.
        part_rows (`int`, *optional*, defaults to `PART_ROWS`):
            Rows of a part, rounded up to whole blocks of the pool.

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
    sample = spaced_rows(pool.num_rows, ROWS_PER_LIST * num_lists) if num_lists else []
    part_rows = -(-part_rows // pool.block_rows) * pool.block_rows
    entries = {"kind": kind, "standardization": str(standardization or "none"), "features": store.checksum()}
    parts, lists_name = None, None
    with lock_for_writing(store.directory):
        if pool.num_rows > part_rows and isinstance(index, faiss.IndexIVF):
            identity = _identity({**entries, "part_rows": part_rows})
            parts, lists_name = IndexParts(store.directory, identity, part_rows), f"{LISTS}-{identity}"
            (store.directory / FACTS).unlink(missing_ok=True)  # until its facts are written, there is no index
            (store.directory / lists_name).unlink(missing_ok=True)  # of an earlier build, perhaps not complete
            index = parts.build(index, pool, sample, store.directory / lists_name)
        else:
            _add_all(index, pool, sample)
        (store.directory / FACTS).unlink(missing_ok=True)  # a build that is killed leaves no index, or a whole one
        write_index(index, store.directory / INDEX)
        for path in store.directory.glob(f"{LISTS}-*"):
            if path.name != lists_name:
                path.unlink()
        facts = IndexFacts(
            num_lists=min(num_lists, max(FEWEST_LISTS, num_lists // LIST_SHARE)),
            rows=pool.num_rows,
            sha256=_sha256(store.directory, lists_name),
            lists=lists_name,
            **entries,
        )
        text = json.dumps({"format": FORMAT_VERSION, **asdict(facts)}, indent=2)
        write_atomic(store.directory / FACTS, text.encode(), checksum=False)
        if parts is not None:
            parts.delete()
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
        return _require_types(IndexFacts(**entries))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{directory / FACTS} is damaged or of another version: run itl-hf index again") from error


def _require_types(facts: IndexFacts) -> IndexFacts:
    """Returns the facts, or raises `ValueError` for values that no index has."""
    texts = (
        facts.kind,
        facts.standardization,
        facts.features,
        facts.sha256,
        "" if facts.lists is None else facts.lists,
    )
    numbers = (facts.num_lists, facts.rows)
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("an entry is not a text")
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in numbers):
        raise ValueError("an entry is not a number")
    return facts


def open_index(path: Path, facts: IndexFacts) -> Any:
    """Opens the file of an index.

    Raises:
        `ValueError`: If the file is absent or not the one that was written.
    """
    lists_path = path if facts.lists is None else path.with_name(Path(facts.lists).name)
    if not (path.exists() and lists_path.exists()) or _sha256(path.parent, facts.lists) != facts.sha256:
        raise ValueError(f"{path} is absent or damaged: run itl-hf index again, or delete {FACTS} beside it")
    faiss = import_faiss()
    where = faiss.IO_FLAG_MMAP if facts.lists is None else faiss.IO_FLAG_ONDISK_SAME_DIR
    return faiss.read_index(str(path), where | faiss.IO_FLAG_READ_ONLY)


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


def _add_all(index: Any, pool: Pool, sample: list[int]) -> None:
    if sample:
        index.train(unit_rows(pool.rows(sample)))
    for _, rows in pool.blocks(torch.float32):
        index.add(unit_rows(rows))


def _identity(entries: dict[str, Any]) -> str:
    return short_hash(json.dumps(entries, sort_keys=True))[:16]


def _sha256(directory: Path, lists_name: str | None) -> str:
    """Returns the checksum of the index and of its lists, where they are a file of their own."""
    paths = [directory / INDEX, *([] if lists_name is None else [directory / Path(lists_name).name])]
    stamps = tuple((stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in (path.stat() for path in paths))
    return _sha256_of(tuple(paths), stamps)


@functools.lru_cache(maxsize=16)
def _sha256_of(paths: tuple[Path, ...], stamps: tuple[tuple[int, ...], ...]) -> str:
    """Files are read once in a process while their size, time and inode stay the same (`stamps`)."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()
