"""`itl-hf targets`: targets from the few-shot examples of benchmarks, and the pool's rows that are in their tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.output import Outcome

if TYPE_CHECKING:
    from itl_hf.text import TextRows
    from itl_hf.text.benchmark_targets import BenchmarkTargets

TARGETS_FILE, CONTAMINATED_FILE = "targets.jsonl", "contaminated.jsonl"


def targets(
    lm_eval: Annotated[
        str, typer.Option("--lm_eval", metavar="TASK[,...]", help="Tasks of lm-eval, such as gsm8k (extra lm-eval).")
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help=f"Folder for {TARGETS_FILE}; new or empty.")],
    pool: Annotated[
        str | None,
        typer.Option("--pool", "--dataset_name", help=f"Screen these rows; those in a test go to {CONTAMINATED_FILE}."),
    ] = None,
    pool_split: Annotated[
        str, typer.Option("--pool_split", "--dataset_train_split", help="Split of a folder or Hub dataset.")
    ] = "train",
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="PART=COLUMN ...", help="Which column of the pool holds what; as in select."),
    ] = None,
    prompt_template: Annotated[
        str | None, typer.Option("--prompt_template", help="A prompt of several columns of the pool.")
    ] = None,
    ngram: Annotated[int, typer.Option("--ngram", help="Successive words that make a row a copy of a test.")] = 13,
    include_path: Annotated[Path | None, typer.Option("--include_path", help="Folder with tasks of your own.")] = None,
    config: ConfigOption = None,
) -> Outcome:
    """Write the few-shot examples of benchmarks as targets, never their tests, and find tests in a pool."""
    from itl_hf.cli.column_arguments import ColumnArguments
    from itl_hf.cli.load_rows import load_rows
    from itl_hf.disk.checks import check_new_folder, expand
    from itl_hf.disk.whole_files import new_folder, write_file
    from itl_hf.text import TextRows
    from itl_hf.text.benchmark_targets import benchmark_targets
    from itl_hf.text.ngrams import NgramScreen

    folder = expand(output_dir)
    check_new_folder(folder, "--output_dir")
    NgramScreen([], ngram)  # raises early
    mapping = ColumnArguments(columns, prompt_template).mapping
    if pool is None and mapping is not None:
        raise typer.BadParameter("--columns and --prompt_template go with --pool: which rows are to be screened")
    rows = None if pool is None else TextRows(load_rows(pool, pool_split), mapping)
    names = [name.strip() for name in lm_eval.split(",") if name.strip()]
    benchmark = benchmark_targets(names, None if include_path is None else expand(include_path))
    contaminated_rows = [] if rows is None else _copies_of_tests(rows, benchmark, ngram)
    with new_folder(folder) as draft:
        write_file(draft / TARGETS_FILE, _lines(benchmark.targets))
        if rows is not None:
            write_file(draft / CONTAMINATED_FILE, _lines(contaminated_rows))
    facts = {
        "targets": len(benchmark.targets),
        "sources": benchmark.sources,
        "copies_of_tests": benchmark.num_copies,
        "pool_size": None if rows is None else len(rows),
        "contaminated": [row["pool_index"] for row in contaminated_rows],
        "output_dir": str(folder),
    }
    return Outcome(_summary(benchmark, contaminated_rows, folder, pool, ngram), facts)


def _copies_of_tests(text_rows: TextRows, benchmark: BenchmarkTargets, ngram: int) -> list[dict[str, Any]]:
    """Returns the rows that share words with a test, with the words and the test."""
    from itl_hf.text.ngrams import NgramScreen

    overlaps = list(NgramScreen(benchmark.test_texts, ngram).overlaps(_text(row) for row in text_rows))
    return [
        {
            **text_rows.read(range(one.row, one.row + 1))[0],
            "pool_index": one.row,
            "shared_words": one.words,
            "test_text": benchmark.test_texts[one.text],
        }
        for one in overlaps
    ]


def _text(row: Any) -> str:
    from itl_hf.text import plain_text

    try:
        return " ".join(plain_text(row))
    except ValueError:  # a row without text, which the selection reports
        return ""


def _lines(rows: list[dict[str, Any]]) -> bytes:
    from itl_hf.selection.export.files import json_lines

    return json_lines(rows)


def _summary(
    benchmark: BenchmarkTargets, contaminated_rows: list[dict[str, Any]], folder: Path, pool: str | None, ngram: int
) -> str:
    lines = [f"{len(benchmark.targets):,} targets in {folder / TARGETS_FILE}"]
    lines += [f"- {name}: from {source}" for name, source in benchmark.sources.items()]
    if benchmark.num_copies:
        lines.append(f"{benchmark.num_copies:,} examples were left out: their questions are also in the test")
    if pool is None:
        return "\n".join([*lines, "no pool was screened (--pool)"])
    words = f"share {ngram} successive words (or a whole shorter text) with a test"
    lines.append(f"{len(contaminated_rows):,} rows of the pool {words}, listed in {folder / CONTAMINATED_FILE}:")
    lines += [f"- row {row['pool_index']}: {row['shared_words'][:100]}" for row in contaminated_rows[:5]]
    exclude = f" --exclude {folder / CONTAMINATED_FILE}" if contaminated_rows else ""
    return "\n".join([*lines, f"itl-hf select --pool {pool} --targets {folder / TARGETS_FILE}{exclude} ..."])
