"""`itl-hf estimate`: what a selection takes, from its sizes alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from itl_hf.cli.arguments import EmbedderArguments, ModelArguments, with_arguments
from itl_hf.cli.config import ConfigOption
from itl_hf.cli.output import Outcome, peak_memory


@with_arguments
def estimate(
    rows: Annotated[int, typer.Option("--rows", help="Rows of the pool.")],
    num_examples: Annotated[int, typer.Option("--num_examples", help="Rows to pick.")],
    embedding: EmbedderArguments,
    model: ModelArguments,
    targets: Annotated[int, typer.Option("--targets", help="Number of targets.")] = 100,
    num_processes: Annotated[int, typer.Option("--num_processes", help="Processes that share the work.")] = 1,
    kernel: Annotated[str, typer.Option("--kernel", help="auto, linear, rbf, laplace or cosine.")] = "auto",
    words_per_row: Annotated[
        int, typer.Option("--words_per_row", help="Words of a row, for the time of a model.")
    ] = 200,
    config: ConfigOption = None,
) -> Outcome:
    """Estimate time, memory, disk and traffic of a selection from its sizes, by timing random rows here for a while.

    With --model, embedding too: a few hundred rows of random words run through it. For rows that you have:
    itl-hf embed --dry_run and itl-hf select --dry_run.
    """
    from itl_hf.cli.estimates import calculated_outcome
    from itl_hf.selection.calculator import SelectionSizes, estimate_cost, estimate_embedding

    name = model.model_name_or_path
    embedder = None if name is None else embedding.build_embedder(name, **model.settings())
    dimension = embedding.dimension if embedder is None else embedder.dimension
    if dimension is None:
        raise typer.BadParameter("give --dimension, or --model, which has one")
    sizes = SelectionSizes(rows, dimension, num_examples, targets, num_processes, kernel)
    of_rows = None if embedder is None else asdict(estimate_embedding(embedder, rows, words_per_row))
    base = peak_memory()  # before the random rows are timed
    return calculated_outcome(sizes, estimate_cost(sizes), of_rows, base)
