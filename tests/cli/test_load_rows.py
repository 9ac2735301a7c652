"""Rows by name."""

from __future__ import annotations

import pytest
from datasets import Dataset, DatasetDict

from itl_hf.cli.load_rows import load_rows


def test_rows_come_from_files_and_folders(files, tmp_path):
    rows = load_rows(str(files / "pool.jsonl"))
    rows.to_csv(tmp_path / "pool.csv")
    rows.to_parquet(tmp_path / "pool.parquet")
    rows.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": rows, "test": rows.select(range(2))}).save_to_disk(tmp_path / "splits")
    for name in ("pool.csv", "pool.parquet", "saved", "splits"):
        assert load_rows(str(tmp_path / name))["prompt"] == rows["prompt"]
    assert len(load_rows(str(tmp_path / "splits"), "test")) == 2


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_rows(str(tmp_path / "absent.jsonl"))
    (tmp_path / "pool.xls").write_text("?", encoding="utf-8")
    with pytest.raises(ValueError, match="files of this kind"):
        load_rows(str(tmp_path / "pool.xls"))
    (tmp_path / "broken.jsonl").write_text('{"text": "fine"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.jsonl cannot be read as jsonl: "):
        load_rows(str(tmp_path / "broken.jsonl"))
    DatasetDict({"test": Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match=r"no split 'train'; its splits are \['test'\]"):
        load_rows(str(tmp_path / "splits"))
