"""Where features live inside a store, so that whoever embeds and whoever selects finds the same folder."""

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
    """The folder of a store for these rows under this embedder: the same work has one place, other work another.

    Args:
        store (`str` or `PathLike`):
            Folder that holds the features of any number of datasets and embedders.
        fingerprint (`dict`):
            What `embedder.fingerprint()` gives.
        rows_hash (`str`):
            What `rows_fingerprint(dataset, embedder)` gives.

    Example:
        >>> feature_directory("features", {"embedder": "tiny"}, "00").name
        'c757aeaae3258040'
    """
    work = json.dumps([identifying(fingerprint), rows_hash], sort_keys=True)
    return Path(store) / hashlib.sha256(work.encode()).hexdigest()[:16]
