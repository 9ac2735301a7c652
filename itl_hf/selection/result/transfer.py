"""A selection that only the first process has on its disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from itl_hf import distributed
from itl_hf.processes import call_on_first
from itl_hf.selection.result.folder import read_selection, replace_selection
from itl_hf.selection.result.selection import Selection


def load_from_first(folder: Path) -> Selection:
    """Reads a selection on process 0 and returns it on every process. Collective: all processes must call it.

    Args:
        folder (`Path`):
            The folder on the disk of process 0; the other machines need not have it.

    Raises:
        `FileNotFoundError`: If the folder holds no selection; on the other processes `OtherProcessFailed`.
        `ValueError`: If a file is damaged; on the other processes `OtherProcessFailed`.
    """
    if distributed.world_size() == 1:
        return Selection.load(folder)
    facts, contents = call_on_first(lambda: read_selection(folder))
    with tempfile.TemporaryDirectory() as copy:
        replace_selection(Path(copy), facts, contents, overwrite=False)
        return Selection.load(copy)
