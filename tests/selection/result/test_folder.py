"""The folder of a selection: whole after a kill at any file operation, never mixed, and no owner of other files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from itl_hf import Embedder, Selection, Selector
from itl_hf.selection.result import folder as module
from itl_hf.selection.result.folder import COMMITTED, FILES, check_selection_folder
from tests.disk.killing import before_each_operation, count_operations, kill

POOL = [{"prompt": word} for word in ("apple river", "banana stone", "cherry cloud", "quince window", "garden fig")]


class Lengths(Embedder):
    """A row's features are its length and its letters a and e."""

    dimension = 3

    def fingerprint(self):
        return {"embedder": "lengths"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        texts = [row["prompt"] for row in rows]
        return torch.tensor([[len(text), text.count("a"), text.count("e")] for text in texts], dtype=torch.float32)


@pytest.fixture(scope="module")
def selections():
    """An earlier and a later selection."""
    return [Selector(Lengths()).select(POOL, [{"prompt": "an apple"}], count) for count in (2, 4)]


def tree(folder):
    """The files below a folder with their contents, and its links."""
    paths = sorted(Path(folder).rglob("*"))
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}
    return files, {str(path.relative_to(folder)): os.readlink(path) for path in paths if path.is_symlink()}


def assert_whole(folder, selections):
    """Asserts that the folder holds exactly one of the selections, and returns its number; `None` for none."""
    try:
        loaded = Selection.load(folder)
    except FileNotFoundError:
        assert None in selections
        return None
    number = next(i for i, one in enumerate(selections) if one is not None and len(one) == len(loaded))
    expected = selections[number]
    assert loaded.dataset.to_list() == expected.dataset.to_list()
    assert loaded.targets.to_list() == expected.targets.to_list()
    assert loaded.record == expected.record
    np.testing.assert_array_equal(loaded.target_variance, expected.target_variance)
    return number


def test_a_kill_at_any_operation_leaves_the_old_or_the_new_selection(selections, tmp_path):
    old, new = selections
    source = old.save(tmp_path / "source")
    (source / "notes.md").write_text("mine")
    job = lambda folder: lambda: new.save(folder, overwrite=True)
    counted = shutil.copytree(source, tmp_path / "counted")
    num_points = count_operations(job(counted))
    assert num_points > 20
    expected_tree = tree(counted)
    outcomes = []
    for point in range(num_points):
        folder = shutil.copytree(source, tmp_path / "out" / str(point) / "selected")
        kill(job(folder), point)
        outcomes.append(assert_whole(folder, selections))
        # Each visible file of rows is whole, too.
        rows = (folder / "data" / "train-00000-of-00001.parquet").read_bytes()
        assert rows in {(source / module.ROWS).read_bytes(), (counted / module.ROWS).read_bytes()}
        new.save(folder, overwrite=True)
        assert tree(folder) == expected_tree
        assert [path.name for path in folder.parent.iterdir()] == ["selected"]
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {0, 1}


def test_a_kill_while_a_new_folder_is_written_leaves_nothing_or_all(selections, tmp_path):
    new = selections[1]
    num_points = count_operations(lambda: new.save(tmp_path / "counted"))
    outcomes = []
    for point in range(num_points):
        folder = tmp_path / "out" / str(point) / "selected"
        kill(lambda folder=folder: new.save(folder), point)
        outcomes.append(assert_whole(folder, [None, new]))
        new.save(folder)
        assert tree(folder) == tree(tmp_path / "counted")
        assert {path.name for path in (tmp_path / "out" / str(point)).iterdir()} == {"selected"}
    assert {None, 1} == set(outcomes)


def test_two_kills_one_after_the_other(selections, tmp_path):
    """A process dies while it finishes what a dead one left."""
    old, new = selections
    source = old.save(tmp_path / "source")
    job = lambda one, folder: lambda: one.save(folder, overwrite=True)
    num_points = count_operations(job(new, shutil.copytree(source, tmp_path / "counted")))
    for first in range(2, num_points, 6):
        folder = shutil.copytree(source, tmp_path / "first" / str(first))
        kill(job(new, folder), first)
        before = assert_whole(folder, selections)
        for second in range(0, count_operations(job(old, shutil.copytree(folder, tmp_path / f"c{first}"))), 5):
            again = shutil.copytree(folder, tmp_path / "second" / f"{first}-{second}")
            kill(job(old, again), second)
            assert assert_whole(again, selections) in {before, 0}


def test_a_selection_read_between_any_two_operations_of_a_writer_is_whole(selections, tmp_path):
    old, new = selections
    folder = old.save(tmp_path / "selected")
    readings = []
    is_reading = []

    def read():
        if not is_reading:
            is_reading.append(True)
            readings.append(assert_whole(folder, selections))
            is_reading.clear()

    with before_each_operation(read):
        new.save(folder, overwrite=True)
    assert readings == sorted(readings)
    assert set(readings) == {0, 1}


@pytest.mark.parametrize("first", range(12))
def test_a_writer_between_any_two_operations_of_a_reader_is_noticed(selections, first, tmp_path):
    folder = selections[0].save(tmp_path / "selected")
    state = {"count": 0, "is_writing": False, "number": 0}

    def write():
        if state["is_writing"]:
            return
        state["count"] += 1
        if state["count"] > first and state["count"] % 3 == first % 3 and state["number"] < 8:
            state["is_writing"] = True
            state["number"] += 1
            selections[state["number"] % 2].save(folder, overwrite=True)
            state["is_writing"] = False

    with before_each_operation(write):
        assert_whole(folder, selections)


def test_a_selection_that_is_replaced_all_the_time_is_an_error(selections, tmp_path, monkeypatch):
    folder = selections[0].save(tmp_path / "selected")
    monkeypatch.setattr(module, "_MOST_READINGS", 3)
    read_contents = module._read_contents
    numbers = iter(range(1, 9))

    def replaced_meanwhile(folder, facts):
        selections[next(numbers) % 2].save(folder, overwrite=True)
        return read_contents(folder, facts)

    monkeypatch.setattr(module, "_is_intact", lambda folder, version: False)
    monkeypatch.setattr(module, "_read_contents", replaced_meanwhile)
    with pytest.raises(ValueError, match="was replaced 3 times while it was read"):
        module.read_selection(folder)


@pytest.mark.parametrize("name", FILES)
def test_any_changed_bit_is_an_error_that_names_the_file(selections, name, tmp_path):
    folder = selections[0].save(tmp_path / "selected")
    content = (folder / name).read_bytes()
    generator = np.random.default_rng(0)
    for position in [*range(0, 40), *generator.integers(len(content), size=60).tolist()]:
        changed = bytearray(content)
        changed[position] ^= 1 << generator.integers(8)
        (folder / name).write_bytes(bytes(changed))
        if name == "selection.json" and json_value(bytes(changed)) == json.loads(content):
            continue  # white space
        with pytest.raises(ValueError, match=Path(name).name):
            Selection.load(folder)
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=Path(name).name):
        Selection.load(folder)
    (folder / name).unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=Path(name).name):
        Selection.load(folder)


def json_value(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_folders_without_checksums_and_version_are_still_read(selections, tmp_path):
    folder = selections[1].save(tmp_path / "selected")
    facts = json.loads((folder / "selection.json").read_text())
    for keys in (["version"], ["version", "sha256"]):
        earlier = {key: value for key, value in facts.items() if key not in keys}
        (folder / "selection.json").write_text(json.dumps(earlier, indent=2), encoding="utf-8")
        assert assert_whole(folder, selections) == 1
    (folder / "arrays.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"arrays\.safetensors"):
        Selection.load(folder)


def test_links_are_kept_and_followed(selections, tmp_path):
    old, new = selections
    folder, disk = tmp_path / "selected", tmp_path / "disk"
    (disk / "rows").mkdir(parents=True)
    folder.mkdir()
    (folder / "data").symlink_to(disk / "rows")
    (folder / "elsewhere").symlink_to(disk / "nowhere")
    old.save(folder, overwrite=True)
    (folder / "targets.parquet").rename(disk / "targets.parquet")
    (folder / "targets.parquet").symlink_to(disk / "targets.parquet")
    links = tree(folder)[1]
    assert set(links) == {"data", "elsewhere", "targets.parquet"}
    new.save(folder, overwrite=True)
    assert tree(folder)[1] == links
    assert assert_whole(folder, selections) == 1
    assert sorted(path.name for path in disk.rglob("*")) == ["rows", "targets.parquet", Path(module.ROWS).name]


def test_a_link_to_another_disk(selections, tmp_path, monkeypatch):
    """A rename between disks is refused; the file is then copied, and whole at each operation."""
    real = os.replace

    def replace_on_one_disk(source, target):
        if COMMITTED in str(source) and str(target).endswith(".parquet"):
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr("os.replace", replace_on_one_disk)
    old, new = selections
    source = old.save(tmp_path / "source")
    num_points = count_operations(lambda: new.save(shutil.copytree(source, tmp_path / "counted"), overwrite=True))
    num_copied = count_operations(lambda: shutil.copytree(source, tmp_path / "copied"))
    for point in range(0, num_points - num_copied, 3):
        folder = shutil.copytree(source, tmp_path / "out" / str(point))
        kill(lambda folder=folder: new.save(folder, overwrite=True), point)
        assert assert_whole(folder, selections) in {0, 1}
        new.save(folder, overwrite=True)
        assert sorted(tree(folder)[0]) == sorted(FILES)


def test_an_error_while_writing_leaves_what_was_there(selections, tmp_path, monkeypatch):
    old, new = selections
    folder = old.save(tmp_path / "selected")
    before = tree(folder)

    def no_space(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_file", no_space)
    with pytest.raises(OSError, match="No space left"):
        new.save(folder, overwrite=True)
    assert tree(folder) == before
    with pytest.raises(OSError, match="No space left"):
        new.save(tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()


def test_files_of_others_are_never_replaced(selections, tmp_path):
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    for name in ("targets.parquet", "selection.json", module.ROWS):
        (folder / name).write_text("[]")
        for overwrite in (False, True):
            with pytest.raises(
                FileExistsError, match=r"is not of a selection|holds no selection|is damaged, or is not"
            ):
                selections[0].save(folder, overwrite=overwrite)
            with pytest.raises(FileExistsError):
                check_selection_folder(folder, overwrite)
        assert (folder / name).read_text() == "[]"
        (folder / name).unlink()
    (folder / "targets.parquet").mkdir()
    with pytest.raises(FileExistsError, match=r"targets\.parquet"):
        selections[0].save(folder, overwrite=True)


def test_paths_that_cannot_be_folders_are_named(selections, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for path in ("file", "file/in/it"):
        with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
            selections[0].save(tmp_path / path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "data").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"):
        selections[0].save(tmp_path / "half", overwrite=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert selections[0].save("~/at/home") == tmp_path / "at" / "home"
    assert len(Selection.load("~/at/home")) == 2


def test_text_that_is_no_unicode_is_saved(selections, tmp_path):
    record = dataclasses.replace(selections[0].record, noise_rule="half a sign: \ud83d", pool_source={"a": "é\u202e"})
    folder = dataclasses.replace(selections[0], record=record).save(tmp_path / "selected")
    assert Selection.load(folder).record == record
