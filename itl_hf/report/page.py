"""One HTML file that tells what was selected, from what, for what, and why: no network, no scripts, nothing beside it.

Figures are inline SVG whose text follows the page's theme. Everything that comes from data is escaped by the template,
and characters that would hide or reorder text are made visible. Not covered: exploring; for that rows need a server.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.report import sections
from itl_hf.report.svg import figures
from itl_hf.report.text import visible
from itl_hf.selection.diagnosis.diagnosis import diagnose

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

#: Targets that are listed with their text.
MAX_TARGETS = 500


@dataclass(frozen=True)
class Table:
    """A table for the page.

    Args:
        title (`str`):
            Heading above it.
        columns (`Sequence[str]`):
            Column heads; the first column names the rows.
        rows (`Sequence[Sequence[str]]`):
            Cells as they shall be read.
        note (`str`, *optional*):
            A sentence below it.
        highlight (`int`, *optional*):
            Number of a row to set off.

    Example:
        >>> table = Table("Loss", ["trained on", "loss"], [["ITL", "1.44"], ["random", "1.92"]], highlight=0)
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    highlight: int | None = None


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
            What to report.
        path (`str` or `PathLike`):
            The file; it is replaced whole or not at all. Missing folders are made.
        title (`str`, *optional*):
            Heading; made from the numbers if left out.
        tables (`Sequence[Table]`, *optional*):
            More tables, shown after the summary.
        max_picks (`int`, *optional*, defaults to 200):
            So many picks, from the first, are listed with their text.

    Returns:
        `Path`: the file.

    Raises:
        `ValueError`: `max_picks` is negative.

    Example:
        >>> from itl_hf import Selection
        >>> write_report(Selection.load("selected"), "report.html").name
        'report.html'
    """
    if max_picks < 0:
        raise ValueError(f"max_picks must be 0 or more, got {max_picks}")
    html = render(selection, title=title, tables=tables, max_picks=max_picks)
    return _write_atomically(html, Path(path))


def render(selection: Selection, *, title: str | None, tables: Sequence[Table], max_picks: int) -> str:
    """The page as a string; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("itl_hf.report"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    diagnosis = diagnose(selection)
    targets = sections.targets(selection, diagnosis, MAX_TARGETS)
    return environment.get_template("report.html").render(
        title=title or f"{len(selection.indices):,} rows picked from {selection.pool_size:,}",
        facts=sections.facts(selection, diagnosis),
        tables=tables,
        warnings=sections.warnings(selection, diagnosis.notices),
        screened=selection.record.screening is not None,
        figures=figures(selection),
        groups=sections.groups(selection),
        picks=sections.picks(selection, max_picks),
        targets=targets,
        known_targets={target["number"]: target for target in targets},
        diagnosis=diagnosis.summary().split("\n"),
        provenance=sections.provenance(selection.record.to_json()),
    )


def _write_atomically(text: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path
