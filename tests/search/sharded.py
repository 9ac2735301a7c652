"""Run once by test_sharded.py: the same selections by one, two, three and five processes, each from one memory
map, and by three of which one fails."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from itl_hf import SelectionConstraints, select_rows, select_rows_per_target
from itl_hf.gp import attainable
from itl_hf.gp import pool as pool_module
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Linear
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search import speculative
from itl_hf.search.speculative import speculative_greedy
from tests.search.kernels import KERNELS
from tests.worlds import world

SIZES = (1, 2, 3, 5)
#: For 400 rows and 6 targets.
NUMBERS = {
    "quality": 10 ** np.random.default_rng(5).uniform(-2, 0, 400),
    "target_weights": 10 ** np.random.default_rng(6).uniform(-1, 1, 6),
}
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
    "known": {"already_selected": [5, 280, 31]},
    "replace": {"constraints": SelectionConstraints(replace=True)},
    **{
        f"{name}, quality and weights": {"acquisition": name, **options, **NUMBERS}
        for name, options in {
            "itl": {"already_selected": [5, 280, 31]},
            "vtl": {"kernel": "linear", "noise_std": 0.3},
            "mean_marginal_itl": {"kernel": "linear"},
            "ctl": {"kernel": RBF(0.3)},
            "information_density": {"constraints": SelectionConstraints(replace=True)},
            "round_robin": {},
        }.items()
    },
}
DRAWN = list(itertools.islice(zip(itertools.cycle(OBJECTIVES), itertools.cycle(KERNELS), strict=True), 14))


def large(folder):
    """Every way to ask, of 400 rows in blocks of 120, which are four: five processes leave one without any."""
    pool_module.BLOCK_ROWS = 120
    speculative.FEWEST_CANDIDATES, speculative.FIRST_PICKS = 32, 8
    pool, targets = np.load(folder / "pool.npy", mmap_mode="r"), np.load(folder / "targets.npy")
    results = {name: select_rows(pool, targets, 16, **options) for name, options in CASES.items()}
    # Four targets: the fifth process has none.
    results["per target"] = select_rows_per_target(pool, targets[:4], 6, num_candidates=60)
    quality = NUMBERS["quality"]
    results["per target, quality"] = select_rows_per_target(pool, targets[:4], 6, num_candidates=60, quality=quality)
    with_bad_rows = np.array(pool)
    with_bad_rows[[3, 120]], with_bad_rows[399, 5] = 0.0, np.nan
    with warnings.catch_warnings(action="ignore"):
        results["unusable rows"] = select_rows(with_bad_rows, targets, 30)
        results["per target, unusable rows"] = select_rows_per_target(with_bad_rows, targets[:4], 6, num_candidates=60)
    return {
        name: {"indices": result.indices.tolist(), "gains": result.gains.tolist()} for name, result in results.items()
    }


def drawn():
    """Problems that are drawn: sizes, blocks, duplicates, noise. Every objective and kernel comes twice."""
    speculative.FEWEST_CANDIDATES, speculative.FIRST_PICKS = 8, 3
    rng, results = np.random.default_rng(0), {}
    for objective, kernel in DRAWN:
        rows, dimension, pool_module.BLOCK_ROWS = rng.integers((8, 2, 10), (60, 12, 30)).tolist()
        features = rng.normal(size=(rows, dimension))
        features[rng.integers(0, rows, rows // 4)] = features[rng.integers(0, rows, rows // 4)]
        pool = Pool(torch.tensor(features), Standardization("scale"))
        targets = pool.preparation(torch.tensor(rng.normal(size=(3, dimension))))
        noise_std = float(10 ** rng.uniform(-1.5, 1))
        process = OBJECTIVES[objective](GaussianProcess(KERNELS[kernel], targets, noise_std, noise_std))
        selection = speculative_greedy(pool, process, min(rows // 2, 6))
        results[f"{objective}, {kernel}"] = {
            "indices": selection.indices,
            "gains": [float(gain) for gain in selection.gains],
            "problem": [rows, dimension, pool.block_rows, noise_std],
        }
    return results


def attainable_bounds():
    """What the pool can teach, exactly and by its landmarks: 40 rows in three blocks."""
    pool_module.BLOCK_ROWS = 16
    generator = torch.Generator().manual_seed(0)
    features, targets = (torch.randn(count, 6, generator=generator, dtype=torch.float64) for count in (40, 4))
    results = {}
    for name, kernel in {"linear": Linear(), "rbf": RBF(0.4)}.items():
        for most in (1000, 20):
            pool = Pool(features, Standardization("scale", unit=True))
            gp = GaussianProcess(kernel, pool.preparation(targets), 1.0, 1.0)
            one = attainable.attainable_variance(pool, gp, include=[5], most_rows=most, most_landmarks=most)
            parts = [one.irreducible, one.whole_pool, one.reach, torch.tensor([one.rows, one.usual_reach])]
            results[f"{name}, {most}"] = torch.cat([part.flatten() for part in parts]).tolist()
            pool = Pool(features, Standardization("scale", unit=True), torch.linspace(0.1, 1, 40))
            one = attainable.attainable_variance(pool, gp, include=[5], most_rows=most, most_landmarks=most)
            results[f"{name}, {most}, quality"] = torch.cat([one.irreducible, one.whole_pool]).tolist()
    return results


class DamagedRows:
    """An array on disk whose last row cannot be read."""

    ndim = 2

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __array__(self, dtype=None):
        return self[:]

    def __getitem__(self, index):
        rows = self.rows[index]
        if (np.atleast_2d(rows)[-1] == self.rows[-1]).all():
            raise ValueError("row 399 cannot be read")
        return rows


def fail(folder):
    """One process meets a row in its part of the pool that cannot be read; all must end."""
    pool_module.BLOCK_ROWS = 64
    select_rows(DamagedRows(np.load(folder / "pool.npy")), np.load(folder / "targets.npy"), 10)


def main(folder: Path) -> None:
    def work(rank):
        dist.init_process_group("gloo")
        results = {"picks": {**large(folder), **drawn()}, "attainable": attainable_bounds()}
        (folder / f"{dist.get_world_size()}-{rank}.json").write_text(json.dumps(results), encoding="utf-8")
        dist.destroy_process_group()

    def failing(rank):
        dist.init_process_group("gloo")
        try:
            fail(folder)
        except Exception as error:
            (folder / f"failed-{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            raise SystemExit(1) from None

    codes = {str(size): world(size, work) for size in SIZES}
    print(json.dumps({**codes, "failing": world(3, failing)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
