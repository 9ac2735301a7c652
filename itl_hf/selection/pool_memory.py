"""`PoolMemory`: what a `Selector` keeps of the pool that it selected from last, so that selecting again is cheap.

Each part is looked up by everything that it was made from: the rows by the dataset object and its fingerprint (lists by
a hash of their content), what was read of them also by the embedder's fingerprint and the columns, the features by the
fingerprint and the hash of the rows. The fingerprint is computed anew in each selection, and hashes the weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import marshal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict

from itl_hf.embedding.embedders.base import identifying
from itl_hf.selection.kept_features import KeptFeatures, shares_work

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder, Fingerprint
    from itl_hf.selection.embed_job import EmbedJob, Store
    from itl_hf.selection.feature_arrays import Features


class PoolMemory:
    """Keeps the last pool. On several processes it keeps nothing."""

    def __init__(self) -> None:
        self._dataset: tuple[Any, Dataset] | None = None
        self._job: tuple[tuple[Any, ...], EmbedJob] | None = None
        self._features: dict[str, tuple[tuple[Any, ...], KeptFeatures]] = {}

    def dataset(self, rows: Any, split: str | None, convert: Callable[[], Dataset]) -> Dataset:
        """Returns the rows as a dataset: the one of the last call if they are the same.

        Args:
            rows (`Dataset`, `DatasetDict` or `list`):
                The rows as users passed them.
            split (`str`, *optional*):
                Split of a `DatasetDict`.
            convert (`Callable[[], Dataset]`):
                Converts them.
        """
        key = None if shares_work() else rows_key(rows, split)
        if key is None:
            return convert()
        if self._dataset is None or self._dataset[0] != key:
            self._dataset = (key, convert())
        return self._dataset[1]

    def job(
        self, dataset: Dataset, embedder: Embedder, also_check: Embedder | None, options: Any, make: Callable[[], Any]
    ) -> EmbedJob:
        """Returns the pool's rows as they were read and checked: those of the last call if nothing has changed.

        Args:
            dataset (`Dataset`):
                The rows.
            embedder (`Embedder`):
                What embeds them.
            also_check (`Embedder`, *optional*):
                Another embedder that checks them.
            options (`dict`):
                Further options of the reading.
            make (`Callable[[], EmbedJob]`):
                Reads the rows.
        """
        if shares_work():
            job: EmbedJob = make()
            return job
        checkers = [embedder] if also_check is None else [embedder, also_check]
        fingerprints = [one.fingerprint() for one in checkers]
        readers = [
            (type(one), fingerprint, one.tokenizer) for one, fingerprint in zip(checkers, fingerprints, strict=True)
        ]
        key = (_Same(dataset), dataset._fingerprint, readers, options)
        if self._job is None or self._job[0] != key:
            self._job = None
            self._job = (key, make())
        return dataclasses.replace(self._job[1], embedder=embedder, fingerprint=fingerprints[0])

    def features(self, job: EmbedJob, store: Store, purpose: str = "picks") -> Features:
        """Embeds the rows of the pool, or returns the features of the last call if they are the same.

        Args:
            job (`EmbedJob`):
                The rows.
            store (`Path` or `FeatureCache`, *optional*):
                Where features are stored.
            purpose (`str`, *optional*, defaults to `"picks"`):
                What they are for: the features of each purpose, such as a shortlist, are kept beside the others.
        """
        if shares_work():
            return job.embed(store)
        key = (_identity(job.fingerprint), job.reading.keys.hash, job.embedder.storage_dtype)
        if purpose not in self._features or self._features[purpose][0] != key:
            self._features.pop(purpose, None)
            features = job.embed(store)
            if not KeptFeatures.fits(features):
                return features
            self._features[purpose] = (key, KeptFeatures(features))
        return self._features[purpose][1]


def rows_key(rows: Any, split: str | None) -> Any:
    """Returns what identifies rows as users passed them; `None` if their content cannot be hashed quickly.

    Example:
        >>> rows_key([{"text": "a", "n": 1}], None) == rows_key([{"text": "a", "n": True}], None)
        False
    """
    if isinstance(rows, DatasetDict):
        return None if split not in rows else rows_key(rows[split], None)
    if isinstance(rows, Dataset):
        return (_Same(rows), rows._fingerprint, split)
    if type(rows) is not list:
        return None
    try:
        content = marshal.dumps(rows, 0)  # version 0 writes equal content in the same way, whoever holds it
    except ValueError:  # values of other types than those of JSON
        return None
    return (hashlib.blake2b(content).digest(), split)


class _Same:
    """Equal to another one if both hold the same object, which lives as long as they do."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    __hash__ = None  # type: ignore[assignment]


def _identity(fingerprint: Fingerprint) -> list[tuple[str, Any]]:
    return sorted(identifying(fingerprint).items())
