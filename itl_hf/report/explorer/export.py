"""What one takes home: the picks that were kept, as JSONL and Parquet, and the selection as a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from itl_hf.report.explorer.row_table import matching
from itl_hf.selection.result.files import write_parquet

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session


def write_files(explored: ExplorerData, session: Session, folder: Path) -> tuple[list[Path], str]:
    """Writes `picks.jsonl`, `picks.parquet` and, if no pick waits to be dropped, `selection.zip`.

    Args:
        explored (`ExplorerData`):
            What is looked at.
        session (`Session`):
            Picks that are dropped or do not pass the filters are left out of the first two.
        folder (`Path`):
            Where; a new folder is made in it.

    Returns:
        `tuple[list[Path], str]`: the files, and a sentence about them.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    picks = kept_picks(explored, session)
    if not len(picks):
        return [], "Nothing to export: no pick is kept by the filters and by what was dropped."
    files = [place / "picks.jsonl", place / "picks.parquet"]
    with files[0].open("w", encoding="utf-8") as file:  # `to_json` would round the numbers
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in picks)
    write_parquet(picks, files[1])
    total = len(session.now(explored))
    words = f"{len(picks):,} of {total:,} picks, those that pass the filters and are not dropped."
    if session.dropped & set(session.now(explored).indices.tolist()):
        # Gains and variances of a selection belong to exactly the picks in it.
        return files, f"{words} For the selection as a folder select again without the dropped rows first."
    session.now(explored).save(place / "selection")
    files.append(Path(shutil.make_archive(str(place / "selection"), "zip", place, "selection")))
    return files, f"{words} selection.zip holds all {total:,} picks, for Selection.load and itl-hf explore."


def kept_picks(explored: ExplorerData, session: Session) -> Dataset:
    """The picks on show without those that were dropped or do not pass the filters, in the order picked."""
    now = session.now(explored)
    rows = now.indices.tolist()
    return now.dataset.select([place for place in matching(now, session.filters) if rows[place] not in session.dropped])
