"""Exported files hold the listed picks and, where possible, the whole selection."""

from __future__ import annotations

import json
import zipfile

from datasets import load_dataset

from itl_hf import Selection
from itl_hf.report.explorer.export import write_files
from itl_hf.report.explorer.session import Filters, Session, reselect


def test_both_files_hold_the_picks_that_are_listed_and_not_dropped(explorer_data, example, tmp_path):
    row = int(example.selection.indices[0])
    session = Session(dropped_rows=frozenset([row]), filters=Filters(groups=("sums",)))
    files, message = write_files(explorer_data, session, tmp_path)
    assert [file.name for file in files] == ["picks.jsonl", "picks.parquet"]
    assert "select again" in message
    lines = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()]
    expected_rows = [pick for pick in example.selection.dataset if pick["task"] == "sums" and pick["pool_index"] != row]
    assert lines == expected_rows
    table = load_dataset("parquet", data_files=str(files[1]), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.to_list() == expected_rows


def test_the_selection_is_exported_as_a_zipped_folder(explorer_data, example, tmp_path):
    session = reselect(explorer_data, Session(dropped_rows=frozenset(example.selection.indices[:3].tolist())))
    files, _ = write_files(explorer_data, session, tmp_path)
    with zipfile.ZipFile(files[2]) as archive:
        archive.extractall(tmp_path / "out")
    assert Selection.load(tmp_path / "out" / "selection").indices.tolist() == session.new_selection.indices.tolist()


def test_with_no_pick_left_nothing_is_exported(explorer_data, tmp_path):
    files, message = write_files(explorer_data, Session(filters=Filters(text="zebra")), tmp_path)
    assert files == []
    assert "Nothing to export" in message
