"""Builds an index in parts and kills itself (SIGKILL) while the third file is written; a second call ends the build."""

from __future__ import annotations

import json
import os
import signal
import sys

import faiss

from itl_hf.embedding import FeatureStore
from itl_hf.gp import pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.shortlist import index_parts
from itl_hf.selection.shortlist.index_file import build_index


def main(directory: str, kill_at: int) -> None:
    """Builds the index of the store; the file number `kill_at`, from 1, is cut and the process killed."""
    pool.BLOCK_ROWS = 64
    write, written = faiss.write_index, []

    def write_or_die(index: object, path: str) -> None:
        write(index, path)
        written.append(path)
        if len(written) == kill_at:
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGKILL)

    faiss.write_index = write_or_die
    index_parts.torch.set_num_threads(1)
    store = FeatureStore.open(directory)
    build_index(store, Standardization("dimensions", unit=True), "IVF9,Flat", part_rows=128)
    print(json.dumps(len(written)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
