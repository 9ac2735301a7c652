"""Quickstart: select, fine-tune and compare in one command.

    python -m recipes.quickstart    # or `make demo`

Picks training rows for a mixture of four tasks by ITL, by cosine similarity and at random, fine-tunes on each with the
same budget, and compares the loss on held-out rows. One seed and a small model: it is an example and not a benchmark.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from itl_hf import HiddenStates, Random, Selection, Selector
from itl_hf.report import Table, write_report
from recipes.quickstart.data import TARGET_SHARES, Data, quickstart_data
from recipes.quickstart.finetune import FineTuner
from recipes.quickstart.results import Results
from recipes.quickstart.settings import Settings

METHODS = ("itl", "random", "cosine")
NAMES = {"untuned": "untuned", "itl": "ITL", "random": "random", "cosine": "cosine"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the recipe. Started again, it continues with what is not finished."""
    parser = HfArgumentParser(Settings)  # type: ignore[arg-type]  # frozen dataclasses are not in its annotation
    (settings,) = parser.parse_args_into_dataclasses(arguments)
    run(settings)


def run(settings: Settings) -> Results:
    """Builds the data, selects, trains, evaluates and writes the report."""
    start_time = time.monotonic()
    print(f"1/5 model: {settings.model_path()}", flush=True)
    data = quickstart_data(settings.rows_per_task, settings.heldout_per_task, settings.seed)
    print(
        f"2/5 data: {len(data.pool):,} rows of {len(set(data.pool['task']))} kinds to choose from, {len(data.targets)} "
        f"prompts of the task, {len(data.held_out)} held-out rows",
        flush=True,
    )
    results = Results(settings.output / "results.json", {**settings.identity(), "data": data.digest()})
    data.write(settings.output)
    selections = select(settings, data, results)
    finetune(settings, data, results, selections)
    selection = Selection.load(settings.output / "selection")
    report = write_report(
        selection,
        settings.output / "report.html",
        title="Quickstart: which rows to train on",
        tables=[loss_table(results), picks_table(results)],
    )
    print(f"5/5 report: {report}\n\n{summary(settings, results)}")
    print(f"\n{next_steps(settings.output)}")
    print(f"\n{time.monotonic() - start_time:.0f} s in all. Started again, it repeats nothing that is finished.")
    return results


def select(settings: Settings, data: Data, results: Results) -> dict[str, Selection]:
    """Makes the selections whose result is missing. The pool is embedded once for all of them and stored on disk."""
    missing = [method for method in METHODS if not is_finished(settings, results, method)]
    print(
        f"3/5 selection: {settings.num_examples} rows by each of {', '.join(missing) or 'no method (all done)'}",
        flush=True,
    )
    if not missing:
        return {}
    embedder = HiddenStates(
        settings.model_path(),
        layer=settings.layer,
        pooling=settings.pooling,
        batch_tokens=settings.batch_tokens,
        max_length=settings.max_length,
    )
    selections = {}
    for method in missing:
        acquisition = Random(settings.seed) if method == "random" else method
        selector = Selector(embedder, acquisition, store=settings.output / "features")
        selections[method] = selector.select(data.pool, data.targets, settings.num_examples)
    if "itl" in selections:
        selections["itl"].save(settings.output / "selection", overwrite=True)
    return selections


def finetune(settings: Settings, data: Data, results: Results, selections: dict[str, Selection]) -> None:
    """Trains and measures what is missing. Each result is saved before the next method starts."""
    missing_steps = [step for step in ("untuned", *selections) if step not in results or step in selections]
    print(f"4/5 training and held-out loss: {', '.join(missing_steps) or 'all done'}", flush=True)
    if not missing_steps:
        return
    tuner = FineTuner(settings, data.pool, data.held_out)
    for step in missing_steps:
        start_time = time.monotonic()
        result: dict[str, Any] = {}
        if step == "untuned":
            result["heldout_loss"] = tuner.loss_before_training()
        else:
            adapter = settings.output / "adapter" if step == "itl" else None
            result["heldout_loss"] = tuner.train(selections[step], adapter)
            result["picks"] = dict(Counter(selections[step].dataset["task"]).most_common())
        result["seconds"] = round(time.monotonic() - start_time, 1)
        results.save(step, result)
        print(f"    {NAMES[step]}: {result['heldout_loss']['mean']:.3f} ({result['seconds']:.0f} s)", flush=True)


def is_finished(settings: Settings, results: Results, method: str) -> bool:
    """Returns whether a method's result is there, and for ITL also the selection and the adapter."""
    folders = [settings.output / "selection", settings.output / "adapter"] if method == "itl" else []
    return method in results and all(path.is_dir() for path in folders)


def loss_table(results: Results) -> Table:
    """Returns a table with the held-out loss of every method on every task."""
    columns = ["trained on", "mean", *TARGET_SHARES]
    rows = [
        [NAMES[step], *(f"{results[step]['heldout_loss'][column]:.3f}" for column in columns[1:])]
        for step in ("untuned", *METHODS)
    ]
    note = (
        "Mean negative log-likelihood per response token (nats) on held-out rows; lower is better, and the lowest of "
        "each column is shaded. Same model, number of rows, schedule and seed for each; the mean gives each of the "
        "four tasks the same weight."
    )
    return Table("Held-out loss after training on the picks", columns, rows, note, best="lowest")


def picks_table(results: Results) -> Table:
    """Returns a table with the number of picks of each target task by each method."""
    columns = ["picked by", *TARGET_SHARES, "other tasks"]
    rows = []
    for method in METHODS:
        picks = results[method]["picks"]
        task_picks = [picks.get(task, 0) for task in TARGET_SHARES]
        rows.append([NAMES[method], *map(str, task_picks), str(sum(picks.values()) - sum(task_picks))])
    note = "Selection sees prompts only: neither the names of the tasks nor any answer."
    rows.insert(0, ["(prompts given as targets)", *map(str, TARGET_SHARES.values()), "0"])
    return Table("Where the picks went", columns, rows, note)


def summary(settings: Settings, results: Results) -> str:
    """Returns the tables and the paths as text for the terminal."""
    lines = []
    for table in (loss_table(results), picks_table(results)):
        cells = [table.columns, *table.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
        lines += [table.title]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        lines += [""]
    for name, path in (
        ("pool, targets", "{pool,targets}.jsonl"),
        ("selected rows", "selection"),
        ("adapter", "adapter"),
        ("report", "report.html"),
        ("figures", "results.json"),
    ):
        lines.append(f"{name:<14}{settings.output / path}")
    return "\n".join(lines)


def next_steps(output: Path) -> str:
    """Returns commands to continue with, as they can be typed in this folder."""
    command = os.path.relpath(Path(sys.executable).with_name("itl-hf"))
    explore = f"{command} explore {output}/selection --pool {output}/pool.jsonl --store {output}/features --open"
    if importlib.util.find_spec("gradio") is None:
        explore = f"{os.path.relpath(sys.executable)} -m pip install --editable '.[explorer]' && {explore}"
    push = f"{command} push {output}/selection YOUR_NAME/quickstart-subset"
    return f"look at it    {explore}\npreview       {push} --preview {output}/preview\npublish it    {push} --private"


if __name__ == "__main__":
    main(sys.argv[1:])
