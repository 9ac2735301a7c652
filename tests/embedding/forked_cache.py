"""The cache on two processes, for a test: `python -m tests.embedding.forked_cache FOLDER` prints JSON."""

import json
import os
import sys
import warnings
from pathlib import Path

import accelerate  # noqa: F401  # imported before the fork, once for all
import datasets

from itl_hf import Selector
from tests.embedding.fakes import HashEmbedder
from tests.worlds import world

POOL = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(40)]})
TARGETS = datasets.Dataset.from_dict({"text": [f"target {i}" for i in range(4)]})


def fail_to_write(*_, **__):
    raise OSError(28, "No space left on device")


def select(rank, folder, kind):
    """Selects twice, each time with a new selector, and writes what was embedded and said."""
    os.environ["ITL_HF_CACHE"] = str(folder / (f"cache-{rank}" if kind == "apart" else "cache"))
    if kind == "full" and rank == 0:  # it writes the only shard
        from itl_hf.embedding.store import feature_store

        feature_store.write_shard = fail_to_write
    outcome = {"rows": [], "indices": []}
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        for _ in range(2):
            embedder = HashEmbedder()
            outcome["indices"].append(Selector(embedder).select(POOL, TARGETS, 5).indices.tolist())
            outcome["rows"].append(embedder.rows_embedded)
    outcome["warnings"] = [str(one.message) for one in messages if "cannot be kept" in str(one.message)]
    (folder / f"{rank}.json").write_text(json.dumps(outcome))


def main(folder):
    results = {}
    for kind in ("shared", "apart", "full"):
        (folder / kind).mkdir()
        codes = world(2, lambda rank, kind=kind: select(rank, folder / kind, kind))
        results[kind] = [json.loads((folder / kind / f"{rank}.json").read_text()) for rank in range(2)]
        assert codes == [0, 0], codes
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
