"""Exports the listed picks as JSONL and Parquet, and the whole selection as a zipped folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from itl_hf.report.explorer.row_table import matching_picks
from itl_hf.selection.result.parquet import write_parquet

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session


def write_files(data: ExplorerData, session: Session, folder: Path) -> tuple[list[Path], str]:
    """Writes `picks.jsonl` and `picks.parquet`, and `selection.zip` if none of the picks is dropped.

    Args:
        data (`ExplorerData`):
            The selection with its pool and features.
        session (`Session`):
            Picks that are dropped or do not pass the filters are left out of the first two files.
        folder (`Path`):
            Folder in which a new folder with the files is made.

    Returns:
        `tuple[list[Path], str]`: The files, and sentences that say what they contain.
    """
    export_folder = Path(tempfile.mkdtemp(dir=folder))
    picks = exported_picks(data, session)
    if not len(picks):
        return [], "Nothing to export: every pick is dropped or does not pass the filters."
    files = [export_folder / "picks.jsonl", export_folder / "picks.parquet"]
    with files[0].open("w", encoding="utf-8") as file:  # `to_json` would round the numbers
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in picks)
    write_parquet(picks, files[1])
    selection = session.current_selection(data)
    total = len(selection)
    message = f"The files hold the {len(picks):,} of {total:,} picks that pass the filters and are not dropped."
    if session.dropped_rows & set(selection.indices.tolist()):
        # The gains and variances of a selection hold only for exactly its picks.
        return files, f"{message} To export the selection as a folder, select again without the dropped rows first."
    selection.save(export_folder / "selection")
    files.append(Path(shutil.make_archive(str(export_folder / "selection"), "zip", export_folder, "selection")))
    return files, f"{message} selection.zip holds all {total:,} picks, for Selection.load and itl-hf explore."


def exported_picks(data: ExplorerData, session: Session) -> Dataset:
    """The current picks that are not dropped and pass the filters, in the order picked."""
    selection = session.current_selection(data)
    rows = selection.indices.tolist()
    listed_picks = matching_picks(selection, session.filters)
    return selection.dataset.select([rank for rank in listed_picks if rows[rank] not in session.dropped_rows])
