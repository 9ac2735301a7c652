"""Run by test_sharded.py under torchrun: every process selects from one memory map, and the first writes the picks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from itl_hf import select_rows, select_rows_per_target
from itl_hf.gp import pool as pool_module
from itl_hf.gp import speculate
from itl_hf.gp.kernels import RBF

CASES = {
    "itl": {},
    "linear": {"kernel": "linear", "standardize": "scale", "noise_std": 0.3},
    "whitened": {"kernel": "linear", "standardize": "whiten-8"},
    "vtl rbf": {"acquisition": "vtl", "kernel": RBF(0.3), "noise_std": 0.5},
    "mean marginal": {"acquisition": "mean_marginal_itl", "kernel": "linear"},
    "ctl": {"acquisition": "ctl", "kernel": "linear"},
    "tiny noise": {"kernel": "linear", "noise_std": 1e-4},
    "cosine": {"acquisition": "cosine"},
    "random": {"acquisition": "random", "seed": 3},
    "known": {"already_selected": [5, 700, 31]},
    "replace": {"replace": True},
}


def main(folder: Path, block_rows: int) -> None:
    torch.set_num_threads(1)
    pool_module.BLOCK_ROWS = block_rows
    speculate.FEWEST_CANDIDATES, speculate.FIRST_PICKS = 32, 8
    pool, targets = np.load(folder / "pool.npy", mmap_mode="r"), np.load(folder / "targets.npy")
    picks = {}
    for name, options in CASES.items():
        result = select_rows(pool, targets, 60, **options)
        picks[name] = {"indices": result.indices.tolist(), "gains": result.gains.tolist()}
    # Four targets: the fifth process has none.
    each = select_rows_per_target(pool, targets[:4], 20, num_candidates=100)
    picks["per target"] = {"indices": each.indices.tolist(), "gains": each.gains.tolist()}
    if not dist.is_initialized() or dist.get_rank() == 0:
        size = dist.get_world_size() if dist.is_initialized() else 1
        (folder / f"picks-{size}.json").write_text(json.dumps(picks), encoding="utf-8")


def fail(folder: Path) -> None:
    """One process meets a bad row in its part of the pool; all must end."""
    pool = np.load(folder / "pool.npy").copy()
    pool[-1, 0] = np.nan
    pool_module.BLOCK_ROWS = 64
    select_rows(pool, np.load(folder / "targets.npy"), 10)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    try:
        if sys.argv[2] == "fail":
            fail(Path(sys.argv[1]))
        else:
            main(Path(sys.argv[1]), int(sys.argv[2]))
    finally:
        dist.destroy_process_group()
