"""`itl-hf export`: the picked rows in the format of another trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.load_selection import SelectionArgument, saved_selection
from itl_hf.cli.output import Outcome

#: Those of `itl_hf.selection.export.export`, whose import takes seconds; a test compares them.
Format = Literal["jsonl", "parquet", "llama_factory", "axolotl", "torchtune", "unsloth", "verl", "verl_sft"]


def export(
    selection: SelectionArgument,
    path: Annotated[
        Path, typer.Option("--path", "--output", "-o", help="File for jsonl and parquet, folder for other formats.")
    ],
    format: Annotated[
        Format, typer.Option("--format", help="jsonl and parquet hold every column; the others what a trainer reads.")
    ] = "jsonl",
    name: Annotated[
        str, typer.Option("--name", help="Name of the files in the folder, and of the data set in the trainer.")
    ] = "selection",
    weights: Annotated[
        str | None, typer.Option("--weights", help="gains: a weight for each row; for jsonl, parquet and verl.")
    ] = None,
    on_bad_rows: Annotated[
        Literal["error", "skip"], typer.Option("--on_bad_rows", help="Rows that the trainer cannot hold.")
    ] = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names.")] = False,
    config: ConfigOption = None,
) -> Outcome:
    """Write the picked rows for another trainer, in the order picked; its own files are never changed."""
    result = saved_selection(selection).export(
        path, format, name=name, weights=weights, on_bad_rows=on_bad_rows, overwrite=overwrite
    )
    files = [str(file) for file in result.files]
    text = "\n".join([f"{result.num_rows:,} rows in {', '.join(files)}", f"to use them: {result.usage}"])
    facts = {"files": files, "rows": result.num_rows, "skipped": result.skipped, "usage": result.usage}
    return Outcome(text, facts)
