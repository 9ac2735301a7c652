"""What one takes home."""

from __future__ import annotations

import json
import zipfile

from datasets import load_dataset

from itl_hf import Selection
from itl_hf.report.explorer.export import write_files
from itl_hf.report.explorer.session import Filters, Session, reselect


def test_kept_picks_go_into_both_files(explorer_data, made, tmp_path):
    row = int(made.selection.indices[0])
    session = Session(dropped_rows=frozenset([row]), filters=Filters(groups=("sums",)))
    files, words = write_files(explorer_data, session, tmp_path)
    assert [file.name for file in files] == ["picks.jsonl", "picks.parquet"]
    assert "select again" in words
    lines = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()]
    wanted = [one for one in made.selection.dataset if one["task"] == "sums" and one["pool_index"] != row]
    assert lines == wanted
    table = load_dataset("parquet", data_files=str(files[1]), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.to_list() == wanted


def test_the_selection_goes_as_a_folder(explorer_data, made, tmp_path):
    session = reselect(explorer_data, Session(dropped_rows=frozenset(made.selection.indices[:3].tolist())))
    files, _ = write_files(explorer_data, session, tmp_path)
    with zipfile.ZipFile(files[2]) as archive:
        archive.extractall(tmp_path / "out")
    assert Selection.load(tmp_path / "out" / "selection").indices.tolist() == session.new_selection.indices.tolist()


def test_nothing_kept_is_said(explorer_data, tmp_path):
    files, words = write_files(explorer_data, Session(filters=Filters(text="zebra")), tmp_path)
    assert files == []
    assert "Nothing to export" in words
