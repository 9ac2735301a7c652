"""The manifest of a store: what its features were made from, and how they are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itl_hf.embedding.embedders.base import identifying
from itl_hf.embedding.store.atomic_files import write_atomic

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 2
DTYPES = ("float32", "float16")
#: What no store has. Larger numbers come from a damaged or made-up manifest, and would take all memory.
MOST_BYTES, MOST_ROWS, MOST_DIMENSIONS = 2**24, 2**40, 2**24


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    Args:
        fingerprint (`dict`):
            What the features were made with, as JSON scalars.
        dimension (`int`):
            Length of a feature row.
        storage_dtype (`str`):
            `"float32"` or `"float16"`.
        shard_rows (`int`):
            Number of stored rows in a shard.
        rows (`int`, *optional*):
            Number of rows of the dataset; `None` for a stream that has not been read to its end.
        stored_rows (`int`, *optional*):
            Number of rows in all shards: fewer than `rows` if equal rows are stored once.
        is_stream (`bool`):
            Whether the rows came from a stream, whose length is known only at its end. The file calls it `streamed`.
    """

    fingerprint: Fingerprint
    dimension: int
    storage_dtype: str
    shard_rows: int
    rows: int | None
    stored_rows: int | None
    is_stream: bool

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the features. Two stores with the same identity hold the same features."""
        rows = "streamed" if self.is_stream else self.rows
        own = {"rows": rows, "dimension": self.dimension, "storage_dtype": self.storage_dtype}
        entries = identifying(self.fingerprint).items()
        return own | {f"embedder's {key}" if key in own else key: value for key, value in entries}

    @property
    def has_index(self) -> bool:
        """Whether equal rows are stored once, so that a file maps rows of the dataset to stored rows."""
        return self.stored_rows != self.rows

    @property
    def identity_hash(self) -> str:
        """Hash of the identity and of the division into shards. Each shard stores it."""
        return _hash([self.identity, self.shard_rows, None if self.is_stream else self.stored_rows])

    def write(self, directory: Path) -> None:
        """Writes `manifest.json` into `directory`."""
        values = {"format": FORMAT_VERSION, **asdict(self)}
        values["streamed"] = values.pop("is_stream")
        text = json.dumps({**values, "sha256": _hash(values)}, indent=2)
        write_atomic(directory / MANIFEST_NAME, text.encode(), checksum=False)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Reads the manifest in `directory`.

        Raises:
            `FileNotFoundError`: If there is none.
            `ValueError`: If it is damaged, or of another version.
        """
        path = directory / MANIFEST_NAME
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large for a manifest")
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("sha256") != _hash(values) or values.pop("format") != FORMAT_VERSION:
                raise ValueError("not what was written")
            return _require_plausible(cls(is_stream=values.pop("streamed"), **values))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is damaged or of another version ({error or type(error).__name__}). Delete {directory} to "
                "compute it anew."
            ) from error


def _require_plausible(manifest: Manifest) -> Manifest:
    """Returns the manifest, or raises `ValueError` for numbers that no store has, before memory is taken for them."""
    counts = {"rows": manifest.rows, "stored_rows": manifest.stored_rows}
    ranges = {
        "dimension": (manifest.dimension, 0, MOST_DIMENSIONS),
        "shard_rows": (manifest.shard_rows, 1, MOST_ROWS),
        **{name: (count, 0, MOST_ROWS) for name, count in counts.items() if count is not None},
    }
    for name, (value, least, most) in ranges.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"{name} is {value!r:.50}")
    if manifest.storage_dtype not in DTYPES or not isinstance(manifest.fingerprint, dict):
        raise ValueError("it names no dtype or fingerprint of a store")
    if None not in counts.values() and int(manifest.stored_rows or 0) > int(manifest.rows or 0):
        raise ValueError("it has more stored rows than rows")
    return manifest


def require_same_identity(
    stored_identity: Mapping[str, Any], requested_identity: Mapping[str, Any], directory: Path
) -> None:
    """Raises a `ValueError` that lists the differences between the stored features and the requested ones, if any.

    Args:
        stored_identity (`Mapping[str, Any]`):
            `Manifest.identity` of the store in `directory`.
        requested_identity (`Mapping[str, Any]`):
            `Manifest.identity` of the features that the caller would compute.
        directory (`Path`):
            Where the store is, for the message.
    """
    absent = object()
    differing = [
        f"{key}: {stored_identity.get(key, '(none)')!r} there, {requested_identity.get(key, '(none)')!r} now"
        for key in dict.fromkeys([*requested_identity, *stored_identity])
        if stored_identity.get(key, absent) != requested_identity.get(key, absent)
    ]
    if differing:
        raise ValueError(
            f"{directory} holds features made from other inputs or with other settings:\n  "
            + "\n  ".join(differing)
            + "\nChoose another directory, delete this one, or go back to those settings."
        )


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
