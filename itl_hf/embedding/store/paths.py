"""Names the folder of a dataset's features inside a store, so that `embed` and `select` use the same one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from itl_hf.embedding.embedders.base import identifying

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint


def feature_directory(store: str | os.PathLike[str], fingerprint: Fingerprint, rows_hash: str) -> Path:
    """Returns the folder for the features of these rows by this embedder, a different one for each combination.

    Args:
        store (`str` or `PathLike`):
            Folder that holds the features of any number of datasets and embedders.
        fingerprint (`dict`):
            Result of `embedder.fingerprint()`.
        rows_hash (`str`):
            Result of `rows_fingerprint(dataset, embedder)`.

    Example:
        >>> feature_directory("features", {"embedder": "tiny"}, "00").name
        'c757aeaae3258040'
    """
    identity = json.dumps([identifying(fingerprint), rows_hash], sort_keys=True)
    return Path(store) / hashlib.sha256(identity.encode()).hexdigest()[:16]
