"""`itl-hf report`: the page of a selection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.load_selection import SelectionArgument, saved_selection
from itl_hf.cli.output import Outcome


def report(
    selection: SelectionArgument,
    path: Annotated[Path, typer.Option("--path", "--output", "-o", help="File to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option("--title", help="Heading; made from the numbers if left out.")] = None,
    max_picks: Annotated[int, typer.Option("--max_picks", help="Picks that are listed with their text.")] = 200,
    config: ConfigOption = None,
) -> Outcome:
    """Write the report of a selection: one HTML file that loads nothing, to read, print or send."""
    import itl_hf.report.page  # noqa: F401  (a missing extra is named before anything is loaded)
    from itl_hf.disk.checks import check_output_file, expand

    check_output_file(expand(path), "--path")
    if max_picks < 0:
        raise typer.BadParameter(f"--max_picks must be 0 or more, got {max_picks}")
    path_written = saved_selection(selection).report(path, title=title, max_picks=max_picks)
    return Outcome(f"report at {path_written}", {"path": str(path_written), "bytes": path_written.stat().st_size})
