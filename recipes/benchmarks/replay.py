"""Measures what replay rows do to the loss on the targets' tasks and on all other tasks.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.replay     # a quarter of an hour on an idle core; results/replay.csv

For target sets of the development half, 96 rows are picked by ITL with its defaults. A LoRA adapter is trained on the
picks alone, and on the picks with replay rows behind them, in shuffled order, as many steps more as there are more
rows. Two losses are measured: on held-out rows of the set's four tasks, and on two held-out rows of each other task of
both halves. Started again, it goes on after the last finished target set.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm.auto import tqdm

from itl_hf import Replay, select_rows
from itl_hf.selection.replay import ReplayDraw
from itl_hf.selection.row_selection import RowSelection
from recipes.benchmarks.fine_tuning.tuner import Training, Tuner
from recipes.benchmarks.ten_pools.features import Features
from recipes.benchmarks.ten_pools.pool import Pool, TargetSet, target_sets
from recipes.benchmarks.ten_pools.registry import load_pool
from recipes.benchmarks.ten_pools.rows import Row
from recipes.offline import smollm2
from recipes.tables import read_csv, write_csv

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results" / "replay.csv"
FEATURES = {"generated": "minilm", "bigbench": "hidden-states"}
NUM_PICKS, NUM_SETS, OTHER_ROWS = 96, 6, 2
REPLAYS: dict[str, Replay | None] = {
    "picks alone": None,
    "0.05 random": Replay(0.05),
    "0.2 random": Replay(0.2),
    "0.2 k_means": Replay(0.2, "k_means"),
}


class Bench:
    """Trains and measures on the target sets of a pool.

    Args:
        pool (`Pool`):
            The pool.
        tuner (`Tuner`):
            Trains the adapters.
        work (`Path`):
            Folder of the benchmark of ten pools, which holds features.
    """

    def __init__(self, pool: Pool, tuner: Tuner, work: Path) -> None:
        self.pool, self.tuner = pool, tuner
        folders = work / "features", work.parent / "fine_tuning" / "features"
        self.rows, self.bank = Features(FEATURES[pool.name], str(smollm2()), *folders).of(pool)

    def records(self, targets: TargetSet) -> list[Record]:
        """Returns a record for the untuned model and one for each kind of replay."""
        place = {"pool": self.pool.name, "set": targets.number}
        records = [place | {"replay": "untuned", "rows": 0} | self._losses(targets)]
        selection = select_rows(self.rows, self.bank[targets.target_rows], NUM_PICKS)
        for name, replay in REPLAYS.items():
            rows = self._training_rows(selection, replay)
            with self.tuner.training_on([self.pool.row(number) for number in rows.tolist()], targets.number):
                records.append(place | {"replay": name, "rows": len(rows)} | self._losses(targets))
        return records

    def _training_rows(self, selection: RowSelection, replay: Replay | None) -> np.ndarray:
        """Returns the row numbers of the picks and of the replay rows behind them."""
        if replay is None:
            return selection.indices
        draw = ReplayDraw(replay, len(self.rows), np.zeros(0, dtype=np.int64))
        return np.concatenate([selection.indices, draw.rows(selection.indices, selection, None)])

    def _losses(self, targets: TargetSet) -> dict[str, float]:
        own = [self.pool.held_out[int(number)] for numbers in targets.held_out.values() for number in numbers]
        return {
            "target_loss": float(np.mean(self.tuner.measure(own)[0])),
            "other_loss": float(np.mean(self.tuner.measure(self._rows_of_other_tasks(targets))[0])),
        }

    def _rows_of_other_tasks(self, targets: TargetSet) -> list[Row]:
        """Returns the last labelled rows of each task that is not of the set."""
        tasks = np.array(self.pool.held_out["task"])
        numbers = [
            np.flatnonzero(tasks == task)[-OTHER_ROWS:] for task in np.unique(tasks) if task not in targets.tasks
        ]
        return [self.pool.held_out[int(number)] for number in np.concatenate(numbers)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the missing target sets and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/pools"), help="folder of features")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV file of results")
    parser.add_argument("--sets", type=int, default=NUM_SETS, help="number of target sets")
    options = parser.parse_args(arguments)
    records = read(options.results)
    finished = {(record["pool"], record["set"]) for record in records}
    tuner = Tuner(str(smollm2()), Training(first_layer=0.6667, dtype="bfloat16"))
    for name in FEATURES:
        pool = load_pool(name)
        missing = [
            each for each in target_sets(pool, "development", options.sets) if (name, each.number) not in finished
        ]
        bench = Bench(pool, tuner, options.work) if missing else None
        for targets in tqdm(missing, desc=name, unit="set"):
            assert bench is not None
            records += bench.records(targets)
            write_csv(options.results, records)
    print(table(records))


def read(path: Path) -> list[Record]:
    """Returns the records of a CSV file, none if there is no file."""
    return (
        [{name: _value(name, text) for name, text in line.items()} for line in read_csv(path)] if path.exists() else []
    )


def _value(name: str, text: str) -> Any:
    return text if name in ("pool", "replay") else int(text) if name in ("set", "rows") else float(text)


def table(records: Sequence[Record]) -> str:
    """Returns the mean losses as Markdown; in brackets the difference to the picks alone and its standard error."""
    lines = [
        "| pool | trained on | rows | loss on the targets' tasks | loss on all other tasks |",
        "|---|---|---|---|---|",
    ]
    for pool, replay in dict.fromkeys((record["pool"], record["replay"]) for record in records):
        cells = [_cell(records, pool, replay, column) for column in ("target_loss", "other_loss")]
        num_rows = next(record["rows"] for record in records if record["replay"] == replay)
        lines.append(f"| {pool} | {replay} | {num_rows} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(records: Sequence[Record], pool: str, replay: str, column: str) -> str:
    losses, alone = (
        np.array([record[column] for record in records if (record["pool"], record["replay"]) == (pool, kind)])
        for kind in (replay, "picks alone")
    )
    difference = losses - alone
    mean = f"{losses.mean():.3f}"
    if replay == "picks alone" or len(difference) < 2:
        return mean
    return f"{mean} ({difference.mean():+.3f} ± {difference.std(ddof=1) / len(difference) ** 0.5:.3f})"


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
