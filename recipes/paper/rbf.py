"""The paper's first figure: which points ITL picks to predict a function in a region from answers in another region.

    pip install -e ".[report]"
    python -m recipes.paper.rbf          # results/rbf.csv and rbf.png, a few seconds

A Gaussian process on the plane (RBF kernel, lengthscale 1). The targets A are a square whose values are predicted.
The sample space S is the region that can be observed, with noise 0.1. Two cases: A inside S, and A outside of S, which
requires extrapolation.
Source: Huebotter et al., "Transductive Active Learning: Theory and Applications" (NeurIPS 2024), figures 1 and 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch

from itl_hf import RowSelection, select_rows
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.kernels import RBF
from itl_hf.selection.row_selection import target_variance
from recipes.tables import write_csv

RESULTS = Path(__file__).parent / "results"
SIZE, STEP = 7.0, 0.25
KERNEL, NOISE_STD = RBF(lengthscale=1.0, on="distance"), 0.1
PICKS, RANDOM_SEEDS = 20, 10
METHODS = {"itl": "ITL", "vtl": "VTL", "undirected": "uncertainty sampling", "random": "random"}


class Box(NamedTuple):
    """An axis-parallel rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def points(self, step: float = STEP) -> np.ndarray:
        """Returns the grid points inside and on the border, (n, 2)."""
        across = np.arange(self.left, self.right + 1e-9, step)
        up = np.arange(self.bottom, self.top + 1e-9, step)
        return np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class Scene:
    """The region that can be observed and the region of the targets.

    Args:
        name (`str`):
            Name in the results.
        title (`str`):
            Title in the figure.
        sample (`Box`):
            S.
        targets (`Box`):
            A.
    """

    name: str
    title: str
    sample: Box
    targets: Box


SCENES = (
    Scene("inside", "A inside S", Box(0.5, 0.5, 6.5, 6.5), Box(3.5, 3.5, 5.5, 5.5)),
    Scene("outside", "A outside S", Box(0.5, 0.5, 4.0, 6.5), Box(4.5, 2.5, 6.0, 4.5)),
)
EVERYWHERE = Box(0.0, 0.0, SIZE, SIZE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Selects, measures and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    from recipes.paper.rbf_figure import rbf_figure

    options.results.mkdir(parents=True, exist_ok=True)
    write_csv(options.results / "rbf.csv", [row for scene in SCENES for row in variance_rows(scene)])
    rbf_figure(SCENES).savefig(options.results / "rbf.png", dpi=110)


@functools.cache
def select(scene: Scene, method: str, seed: int | None = None) -> RowSelection:
    """Selects from S for the targets A by one method."""
    return select_rows(
        scene.sample.points(),
        scene.targets.points(),
        PICKS,
        acquisition=method,
        kernel=KERNEL,
        noise_std=NOISE_STD,
        standardize=False,
        seed=seed if method == "random" else None,
    )


def variance_everywhere(selection: RowSelection) -> np.ndarray:
    """Returns the variance of f on a grid over the whole plane after all picks, (G, G)."""
    gp = dataclasses.replace(selection.gp, targets=torch.from_numpy(EVERYWHERE.points()))
    picks = selection.pool.rows(selection.indices.tolist())
    left = target_variance(picks, gp, picks[:0])[-1].numpy()  # (G * G,)
    side = round(len(left) ** 0.5)
    return left.reshape(side, side)


def mean_variance(scene: Scene, method: str) -> np.ndarray:
    """Returns the mean variance over A after 0..n picks, (n + 1,); for `random` the mean over seeds."""
    seeds = range(RANDOM_SEEDS) if method == "random" else [None]
    course: np.ndarray = np.mean([select(scene, method, seed).target_variance.mean(1) for seed in seeds], axis=0)
    return course


@functools.cache
def floor(scene: Scene) -> float:
    """Returns the mean variance over A if all of S were observed without noise."""
    selection = select(scene, "itl")
    return float(attainable_variance(selection.pool, selection.gp).irreducible.mean())


def variance_rows(scene: Scene) -> list[dict[str, object]]:
    """Returns rows of the results file."""
    least = floor(scene)
    return [
        {"scene": scene.name, "method": method, "picks": n, "variance": float(value), "irreducible": least}
        for method in METHODS
        for n, value in enumerate(mean_variance(scene, method))
    ]


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
