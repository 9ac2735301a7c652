"""Rows by name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path, PureWindowsPath

import pytest
from datasets import Dataset, DatasetDict

from itl_hf.cli.load_rows import _without_patterns, is_file_name, load_rows

WRITERS = {
    "csv": lambda path, text: path.write_text(f"text,n\n{text},1\n", encoding="utf-8"),
    "tsv": lambda path, text: path.write_text(f"text\tn\n{text}\t1\n", encoding="utf-8"),
    "txt": lambda path, text: path.write_text(f"{text}\n", encoding="utf-8"),
    "jsonl": lambda path, text: path.write_text(f'{{"text": "{text}"}}\n', encoding="utf-8"),
    "parquet": lambda path, text: Dataset.from_dict({"text": [text]}).to_parquet(path),
    "csv.gz": lambda path, text: path.write_bytes(gzip.compress(f"text\n{text}\n".encode(), mtime=0)),
}


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


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "[ab]"])
def test_a_name_with_glob_characters_is_that_file(suffix, name, tmp_path):
    for stem, text in ((name, "this"), ("a1", "another"), ("ab", "another"), ("a", "another")):
        WRITERS[suffix](tmp_path / f"{stem}.{suffix}", text)
    assert load_rows(str(tmp_path / f"{name}.{suffix}"))["text"][:] == ["this"]


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_file_written_anew_with_the_same_time_is_read_anew(suffix, in_folder, tmp_path):
    if suffix == "tsv" and in_folder:
        pytest.skip("datasets reads no tabs in a folder")
    path = tmp_path / "rows" / f"train.{suffix}"
    path.parent.mkdir()
    name = str(path.parent if in_folder else path)
    for text in ("first", "other", "first"):
        WRITERS[suffix](path, text)
        os.utime(path, (1.7e9, 1.7e9))
        assert load_rows(name)["text"][:] == [text]


def test_texts_that_look_like_missing_values_are_texts(tmp_path):
    words = ["NA", "null", "None", "nan", "N/A", "NULL", "#N/A", "-nan", "<NA>", "n/a"]
    for suffix, separator in (("csv", ","), ("tsv", "\t")):
        path = tmp_path / f"rows.{suffix}"
        lines = [f"prompt{separator}completion", *(f"is it{separator}{word}" for word in words), f"is it{separator}"]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert load_rows(str(path))["completion"][:] == [*words, None]


def test_numbers_in_columns_of_text_stay_as_they_are_written(tmp_path):
    for name, answers in (("a", ["007", "1e5", "True", ""]), ("b", ["2", "2.50", "words", "3"])):
        lines = ["question,answer,cost", *(f"what?,{answer},3" for answer in answers)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = load_rows(str(tmp_path / "*.csv"))
    assert rows["answer"][:] == ["007", "1e5", "True", None, "2", "2.50", "words", "3"]
    assert rows["cost"][:] == [3] * 8


def test_a_column_may_be_empty_in_the_first_of_several_files(tmp_path):
    Dataset.from_list([{"prompt": "a", "tools": None, "cost": 1}]).to_parquet(tmp_path / "1.parquet")
    Dataset.from_list([{"prompt": "b", "tools": [{"n": 1}], "cost": None}]).to_parquet(tmp_path / "2.parquet")
    rows = load_rows(str(tmp_path / "*.parquet"))
    assert rows.to_list() == [
        {"prompt": "a", "tools": None, "cost": 1},
        {"prompt": "b", "tools": [{"n": 1}], "cost": None},
    ]
    Dataset.from_list([{"prompt": {"x": 1}, "tools": None, "cost": 2}]).to_parquet(tmp_path / "3.parquet")
    with pytest.raises(ValueError, match=r"\*\.parquet cannot be read as parquet"):
        load_rows(str(tmp_path / "*.parquet"))


@pytest.mark.parametrize("name", ["rows.ndjson", "ROWS.JSONL", "rows.Json"])
def test_other_spellings_of_a_suffix_are_read(name, tmp_path):
    (tmp_path / name).write_text('{"text": "a"}\n', encoding="utf-8")
    assert load_rows(str(tmp_path / name)).to_list() == [{"text": "a"}]


def test_splits_and_configurations_of_what_has_none_are_refused(files, tmp_path):
    pool = str(files / "pool.jsonl")
    assert is_file_name(pool)
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    assert not is_file_name(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match="is a file and has no splits: leave out the split 'test'"):
        load_rows(pool, "test")
    with pytest.raises(ValueError, match="has no splits: leave out the split 'test'"):
        load_rows(str(tmp_path / "saved"), "test")
    for name in (pool, str(tmp_path / "saved")):
        with pytest.raises(ValueError, match=r"has no configurations \(subsets\): leave out 'en'"):
            load_rows(name, config="en")


@pytest.mark.parametrize("option", ["--pool_split", "--pool_config", "--targets_split", "--targets_config"])
def test_the_command_line_refuses_them_before_a_model_is_loaded(option, files, run, tmp_path):
    names = ["--pool", files / "pool.jsonl", "--targets", files / "targets.txt", "--num_examples", 2]
    result = run("select", *names, "--model", tmp_path / "no-model", "--output_dir", tmp_path / "out", option, "other")
    assert isinstance(result.exception, ValueError)
    assert "leave out" in str(result.exception)


def test_a_drive_and_a_system_without_links(tmp_path, monkeypatch):
    """As on Windows: the colon of a drive is no pattern, and links may be forbidden."""
    drive = PureWindowsPath("C:/rows of mine/a.csv")
    assert _without_patterns(drive, tmp_path / "cache") == str(drive)

    def refuse(*_):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "a[1].csv").write_text("prompt\none\ntwo\n")
    assert load_rows(str(tmp_path / "a[1].csv"))["prompt"][:] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "prompt,n,prompt\na,1,b\n", "has two columns called 'prompt'"),
        ("a.tsv", "prompt\tprompt\na\tb\n", "has two columns called 'prompt'"),
        ("a.csv", "prompt;completion\na;b\n", r"one column, called 'prompt;completion'.*by semicolons.*by commas"),
        ("a.tsv", "prompt,completion\na,b\n", "by commas, and must be by tabs"),
        ("a.csv", "prompt\tcompletion\na\tb\n", "by tabs, and must be by commas"),
    ],
)
def test_a_header_that_hides_columns_is_refused(name, content, words, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} .*{words}"):
        load_rows(str(tmp_path / name))
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode(), mtime=0))
    with pytest.raises(ValueError, match=words):
        load_rows(str(packed))


def test_a_folder_without_rows_says_so_whatever_it_is_called(tmp_path):
    for name in ("rows", "rows.jsonl"):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=rf"{name} holds no rows that can be read .*give a file"):
            load_rows(str(tmp_path / name))
