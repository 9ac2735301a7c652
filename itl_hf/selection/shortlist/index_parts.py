"""Builds an index of lists (IVF) part by part on disk, so that a large pool needs little memory and a build that was
killed continues.

The lists are fitted once. Then the rows are added in parts of `PART_ROWS`, each to an empty copy of the fitted index,
which is written as a file of its own. At the end the lists of all parts are joined in one file, which a search maps
into memory. A part is written whole or not at all; a later build with the same settings reads the parts that are there.

Memory: the rows that the lists are fitted on, and one part. Disk while it builds: twice the finished index.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.disk.whole_files import move_file
from itl_hf.gp.pool import Pool

#: Rows of a part, a multiple of the rows of a block: a build that was killed loses at most the work on so many.
PART_ROWS = 2**20
FITTED = "fitted.faiss"
_FOLDER = "nearest.parts-"


class IndexParts:
    """The files of an index that is being built, in a folder beside the features.

    Args:
        directory (`Path`):
            Folder of the features.
        identity (`str`):
            What the index is made from, as letters and digits; parts of another index are deleted.
        part_rows (`int`, *optional*, defaults to `PART_ROWS`):
            Rows of a part.

    Attributes:
        num_reused (`int`):
            Parts of an earlier build that were there.
    """

    def __init__(self, directory: Path, identity: str, part_rows: int = PART_ROWS) -> None:
        self.folder = directory / f"{_FOLDER}{identity}"
        self.part_rows = part_rows
        self.num_reused = 0
        for other in directory.glob(f"{_FOLDER}*"):
            if other != self.folder:
                shutil.rmtree(other)
        self.folder.mkdir(exist_ok=True)

    def build(self, index: Any, pool: Pool, sample: list[int], lists_path: Path) -> Any:
        """Fits the index, adds all rows of the pool, and returns the index with its lists in the file `lists_path`.

        Args:
            index (`faiss.IndexIVF`):
                An empty index.
            pool (`Pool`):
                The rows, prepared.
            sample (`list[int]`):
                Numbers of the rows that the lists are fitted on.
            lists_path (`Path`):
                A file that does not exist.
        """
        import faiss

        empty_index = self.folder / FITTED
        if not empty_index.exists():
            index.train(unit_rows(pool.rows(sample)))
            write_index(index, empty_index)
        paths = []
        for number, first in enumerate(range(0, pool.num_rows, self.part_rows)):
            paths.append(self.folder / f"part-{number:05d}.faiss")
            if paths[-1].exists():
                self.num_reused += 1
                continue
            part = faiss.read_index(str(empty_index))
            for start, rows in _blocks(pool, first, first + self.part_rows):
                part.add_with_ids(unit_rows(rows), np.arange(start, start + len(rows), dtype=np.int64))
            write_index(part, paths[-1])
        return _join(faiss.read_index(str(empty_index)), paths, lists_path)

    def delete(self) -> None:
        """Deletes the files."""
        shutil.rmtree(self.folder)


def _blocks(pool: Pool, first: int, end: int) -> Iterator[tuple[int, Tensor]]:
    for start in pool.starts:
        if first <= start < end:
            yield start, pool.block(start, torch.float32)


def _join(index: Any, paths: list[Path], lists_path: Path) -> Any:
    """Writes the lists of all parts into one file and returns the index that reads them there."""
    import faiss

    parts: list[Any] = [faiss.read_index(str(path), faiss.IO_FLAG_MMAP) for path in paths]
    vector = faiss.InvertedListsPtrVector()  # type: ignore[attr-defined]
    for part in parts:
        vector.push_back(part.invlists)
    with _output_to_stderr():
        lists: Any = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(lists_path))
        index.ntotal = lists.merge_from_multiple(vector.data(), vector.size())
    index.replace_invlists(lists, True)
    lists.this.disown()  # the index frees them
    return index


@contextlib.contextmanager
def _output_to_stderr() -> Iterator[None]:
    """What FAISS prints with C's printf goes to stderr: stdout may be one JSON object (`--json`)."""
    sys.stdout.flush()
    stdout = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
        ctypes.CDLL(None).fflush(None)  # lists on disk need mmap, so this is no Windows
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def write_index(index: Any, path: Path) -> None:
    """Writes an index into a file completely or, if interrupted, not at all."""
    import faiss

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        faiss.write_index(index, str(temporary))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        move_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unit_rows(rows: Tensor) -> Any:
    """Returns rows of norm 1 as a float32 array for FAISS."""
    return torch.nn.functional.normalize(rows.float()).contiguous().cpu().numpy()
