"""Writes the report: one HTML file that says what was selected, from which pool, for which targets, and why.

The file needs no network, no scripts and no other files. Figures are inline SVG whose text has the colours of the
page's theme. The template escapes all text from the data, and characters that would hide or reorder text are made
visible. For an interactive page, see `itl_hf.report.explorer`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from itl_hf.disk.checks import check_output_file, expand
from itl_hf.disk.whole_files import write_whole_file
from itl_hf.report import sections
from itl_hf.report.environment import html_environment
from itl_hf.report.svg import figures
from itl_hf.selection.diagnosis.diagnosis import diagnose
from itl_hf.selection.diagnosis.verdict import next_steps, verdict

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

#: Largest number of targets that are listed with their text.
MAX_TARGETS = 500
#: Targets at the top of the page.
MAX_WORST = 5


@dataclass(frozen=True)
class Table:
    """An additional table for the report.

    Args:
        title (`str`):
            Heading above the table.
        columns (`Sequence[str]`):
            Column headings; the first column names the rows.
        rows (`Sequence[Sequence[str]]`):
            The cells as text.
        note (`str`, *optional*):
            A sentence below the table.
        best (`"lowest"` or `"highest"`, *optional*):
            Which number of each column is marked as the best one; equal numbers are all marked.

    Example:
        >>> table = Table("Loss", ["trained on", "loss"], [["ITL", "1.44"], ["random", "1.92"]], best="lowest")
        >>> table.is_best(0, 1), table.is_best(1, 1)
        (True, False)
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    best: Literal["lowest", "highest"] | None = None

    def is_best(self, row: int, column: int) -> bool:
        """Returns whether a cell holds the best number of its column; columns of words have none."""
        if self.best is None:
            return False
        try:
            values = [float(cells[column]) for cells in self.rows]
        except ValueError:
            return False
        return values[row] == (min(values) if self.best == "lowest" else max(values))


def write_report(
    selection: Selection,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    tables: Sequence[Table] = (),
    max_picks: int = 200,
) -> Path:
    """Writes the report of a selection as one self-contained HTML file.

    Args:
        selection (`Selection`):
            The selection to report on.
        path (`str` or `PathLike`):
            The file to write. If writing fails, an existing file stays as it was. Missing folders are made, a link is
            followed.
        title (`str`, *optional*):
            Heading of the page; by default made from the numbers of rows.
        tables (`Sequence[Table]`, *optional*):
            Additional tables, shown after the summary.
        max_picks (`int`, *optional*, defaults to 200):
            Number of picks, starting with the first, that are listed with their text.

    Returns:
        `Path`: The path of the file.

    Raises:
        `ValueError`: If `max_picks` is negative.
        `IsADirectoryError`: If the path is a folder.

    Example:
        >>> from itl_hf import Selection
        >>> write_report(Selection.load("selected"), "report.html").name
        'report.html'
    """
    if max_picks < 0:
        raise ValueError(f"max_picks must be 0 or more, got {max_picks}")
    check_output_file(expand(path), "the report")
    html = render(selection, title=title, tables=tables, max_picks=max_picks)
    write_whole_file(expand(path), html.encode("utf-8", "backslashreplace"))
    return expand(path)


def render(selection: Selection, *, title: str | None, tables: Sequence[Table], max_picks: int) -> str:
    """Returns the report as an HTML string; the arguments are those of `write_report`."""
    diagnosis = diagnose(selection)
    targets = sections.targets(selection, diagnosis, MAX_TARGETS)
    return (
        html_environment("itl_hf.report")
        .get_template("report.html")
        .render(
            title=title or f"{len(selection.indices):,} rows picked from {selection.pool_size:,}",
            facts=sections.facts(selection, diagnosis),
            verdict=verdict(diagnosis),
            next_steps=next_steps(diagnosis),
            tables=tables,
            warnings=sections.warnings(selection, diagnosis.notices),
            screened=selection.record.screening is not None,
            compared_as_a_whole=selection.record.shift is not None,
            figures=figures(selection),
            groups=sections.groups(selection),
            picks=sections.picks(selection, max_picks),
            targets=targets,
            worst_targets=targets[:MAX_WORST],
            listed_targets={target["number"]: target for target in targets},
            diagnosis=diagnosis.summary().split("\n"),
            provenance=sections.provenance(selection.record.to_json()),
        )
    )
