"""The readers by name. Each module is imported when its readers are used: some of them load torch."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from pathlib import Path

from tests.fuzz.reader import Reader

MODULES = {
    "manifest": "store",
    "record": "selection",
    "arrays": "selection",
    "picked_rows": "selection",
    "index": "index",
    "yaml": "options",
    "rows": "rows",
}


def reader(name: str) -> Reader:
    """Returns the reader of this name."""
    module = importlib.import_module(f"tests.fuzz.readers.{MODULES[name]}")
    return module.READERS[name]


def run(name: str, content: bytes) -> None:
    """Lets a reader read this content in a new folder.

    Raises:
        `UndocumentedError`: If it does anything else than what it documents.
    """
    folder = Path(tempfile.mkdtemp(prefix="itl-hf-fuzz-"))
    try:
        reader(name).read(content, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
