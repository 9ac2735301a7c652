"""What a store says of itself: which work it holds, and in what form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itl_hf.embedding.embedders.base import identifying
from itl_hf.embedding.store.atomic_files import write_whole

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint

NAME = "manifest.json"
FORMAT = 2
DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    Args:
        fingerprint (`dict`):
            What the features were made with, as JSON scalars.
        dimension (`int`):
            Numbers in a feature row.
        storage_dtype (`str`):
            `"float32"` or `"float16"`.
        shard_rows (`int`):
            Stored rows in a shard.
        rows (`int`, *optional*):
            Rows of the dataset; `None` for a stream that has not been read to its end.
        stored_rows (`int`, *optional*):
            Rows in the shards: fewer than `rows` where equal rows are stored once.
        streamed (`bool`):
            Whether the rows came from a stream, whose length and hash are known only at its end.
    """

    fingerprint: Fingerprint
    dimension: int
    storage_dtype: str
    shard_rows: int
    rows: int | None
    stored_rows: int | None
    streamed: bool

    @property
    def work(self) -> dict[str, Any]:
        """What must be equal for features to be the same."""
        rows = "streamed" if self.streamed else self.rows
        own = {"rows": rows, "dimension": self.dimension, "storage_dtype": self.storage_dtype}
        entries = identifying(self.fingerprint).items()
        return own | {f"embedder's {key}" if key in own else key: value for key, value in entries}

    @property
    def has_index(self) -> bool:
        """Whether equal rows are stored once, so that a file says which is which."""
        return self.stored_rows != self.rows

    @property
    def work_hash(self) -> str:
        """Short name of the work, which each shard carries."""
        return _hash([self.work, self.shard_rows, None if self.streamed else self.stored_rows])

    def write(self, directory: Path) -> None:
        """Save under `directory`."""
        values = {"format": FORMAT, **asdict(self)}
        text = json.dumps({**values, "sha256": _hash(values)}, indent=2)
        write_whole(directory / NAME, text.encode(), checksum=False)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest in `directory`.

        Raises:
            `FileNotFoundError`: There is none.
            `ValueError`: It is damaged, or of another version.
        """
        path = directory / NAME
        try:
            values = json.loads(path.read_text())
            if values.pop("sha256") != _hash(values) or values.pop("format") != FORMAT:
                raise ValueError("not what was written")
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged or of another version. Delete {directory} to compute it anew."
            ) from error

    def as_stored(self) -> Manifest:
        """Through JSON and back, so that what is compared is what would be stored."""
        return replace(self, fingerprint=json.loads(json.dumps(self.fingerprint)))


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], directory: Path) -> None:
    """Raises `ValueError` that lists what differs between the work in `directory` and the work wanted."""
    absent = object()
    differing = [
        f"{key}: {found.get(key, '(none)')!r} there, {wanted.get(key, '(none)')!r} now"
        for key in dict.fromkeys([*wanted, *found])
        if found.get(key, absent) != wanted.get(key, absent)
    ]
    if differing:
        raise ValueError(
            f"{directory} holds features made from other inputs or with other settings:\n  "
            + "\n  ".join(differing)
            + "\nChoose another directory, delete this one, or go back to those settings."
        )


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
