"""Checks on the folder of a store: one on a read-only disk may hold all features that are needed.

Which features those are is known only when the rows were read and the embedder named its settings. Hence two checks: an
early one, which refuses a folder that cannot be of use, and one of the features of a dataset before they are computed.
"""

from __future__ import annotations

from pathlib import Path

from itl_hf.disk.checks import check_writable_folder
from itl_hf.embedding.store.cache import is_finished
from itl_hf.embedding.store.manifest import MANIFEST_NAME


def check_store_folder(store: Path, name: str = "store") -> None:
    """Checks that features can be written into a folder, or that there are finished features in it.

    Args:
        store (`Path`):
            Folder that holds the features of any number of datasets.
        name (`str`, *optional*, defaults to `"store"`):
            What it is, for messages, such as `"--store"`.

    Raises:
        `NotADirectoryError`: If a part of the path is a file.
        `PermissionError`: If nothing can be written there, and no features are there to be read.
    """
    try:
        check_writable_folder(store, name)
    except PermissionError:
        if not any(is_finished(manifest.parent) for manifest in store.glob(f"*/{MANIFEST_NAME}")):
            raise


def check_can_embed_into(directory: Path, name: str = "store") -> None:
    """Checks that the features of a dataset are finished, or that they can be written.

    Args:
        directory (`Path`):
            The folder of the features, from `feature_directory`.
        name (`str`, *optional*, defaults to `"store"`):
            What the folder that it is in is, for messages.

    Raises:
        `PermissionError`: If features are missing and nothing can be written there.
    """
    if not is_finished(directory):
        check_writable_folder(directory, f"{name}, which lacks features that are needed now,")
