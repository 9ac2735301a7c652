"""Run once by test_sharded.py: the same shortlists by one, two and three processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from itl_hf import SelectionConstraints, Selector, Shortlist, select_rows
from itl_hf.gp import pool as pool_module
from itl_hf.gp.kernels import RBF
from itl_hf.selection.shortlist import listed_rows
from tests.selection.shortlist.embedders import CountingEmbedder
from tests.worlds import world

SIZES = (1, 2, 3)
GROUPS = [row % 7 for row in range(400)]
CASES = {
    "auto": {"shortlist": "auto"},
    "measured noise": {"shortlist": 40, "noise_std": "measured"},
    "number": {"shortlist": 120},
    "all rows": {"shortlist": 400},
    "linear": {"shortlist": 60, "kernel": "linear", "standardize": "scale"},
    "whitened": {"shortlist": 60, "kernel": "linear", "standardize": "whiten-8"},
    "distance": {"shortlist": 60, "kernel": RBF(2.0, on="distance")},
    "vtl": {"shortlist": 60, "acquisition": "vtl"},
    "continued": {"shortlist": 40, "already_selected": [5, 280, 31]},
    "groups": {
        "shortlist": 16,
        "constraints": SelectionConstraints(groups=GROUPS, group_shares={6: (0.5, 1.0), 0: (0.0, 0.1)}),
    },
}


def one_stage(folder):
    pool, targets = np.load(folder / "pool.npy", mmap_mode="r"), np.load(folder / "targets.npy")
    results = {name: select_rows(pool, targets, 16, **options) for name, options in CASES.items()}
    return {name: [result.indices.tolist(), result.record.shortlist] for name, result in results.items()}


def two_stages(folder):
    """The embedders of all processes together embed every row once."""
    words = [f"{first} {second} {number}" for first in "abcdef" for second in "ghijk" for number in range(5)]
    cheap, dear = CountingEmbedder(8), CountingEmbedder(24, weight=2.0)
    store = folder / f"store-{dist.get_world_size()}"
    selector = Selector(dear, shortlist=Shortlist(40, cheap), store=store)
    selection = selector.select([{"text": text} for text in words], [{"text": "a g 9"}, {"text": "e k 7"}], 12)
    embedded = [sorted(dear.prompts), len(cheap.prompts)]
    return [selection.indices.tolist(), selection.record.shortlist], embedded


def main(folder: Path) -> None:
    pool_module.BLOCK_ROWS = 60
    listed_rows.LOOKAHEAD_ROWS = 20

    def work(rank):
        dist.init_process_group("gloo")
        results = {"one stage": one_stage(folder)}
        results["two stages"], results["embedded"] = two_stages(folder)
        (folder / f"{dist.get_world_size()}-{rank}.json").write_text(json.dumps(results), encoding="utf-8")
        dist.destroy_process_group()

    print(json.dumps({str(size): world(size, work) for size in SIZES}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
