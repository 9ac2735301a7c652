"""Run once by test_baselines.py: three processes ask every baseline, and each writes the picks that it found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from itl_hf import SelectionConstraints, select_rows
from itl_hf.gp import pool as pool_module
from itl_hf.selection.baselines import farthest
from tests.selection.baseline_cases import NAMES, TEXTUAL, acquisition_of, problem, texts_of
from tests.worlds import world

#: 200 rows are four blocks: three processes share them unevenly.
BLOCK_ROWS = 60
PROCESSES = 3


def picks():
    pool, targets = problem(0, 200)
    words = texts_of(pool, targets)
    constraints = SelectionConstraints(groups=[row % 3 for row in range(200)], group_shares=0.5)
    limited = {"constraints": constraints, "already_selected": [5, 150, 77]}
    found = {}
    for name in NAMES:
        for key, options in ((name, {}), (f"{name} limited", limited)):
            given = words if name in TEXTUAL else {}
            result = select_rows(pool, targets, 30, acquisition=acquisition_of(name, pool), **given, **options)
            found[key] = {"indices": result.indices.tolist(), "gains": result.gains.tolist()}
    return found


def main(folder: Path) -> None:
    pool_module.BLOCK_ROWS = BLOCK_ROWS
    farthest.MOST_SINGLE = 64  # another way through the passes than one process takes, to the same picks

    def work(rank):
        dist.init_process_group("gloo")
        (folder / f"{rank}.json").write_text(json.dumps(picks()), encoding="utf-8")
        dist.destroy_process_group()

    assert world(PROCESSES, work) == [0] * PROCESSES


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
