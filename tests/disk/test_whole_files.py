"""Files and folders appear whole or not at all, also after a kill, and nothing of dead processes is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from itl_hf.disk import temporary
from itl_hf.disk.checks import check_new_folder, check_output_file, check_writable_folder, expand
from itl_hf.disk.lock import lock_folder
from itl_hf.disk.temporary import is_temporary, remove_leftovers, temporary_folder, temporary_path
from itl_hf.disk.whole_files import new_folder, write_whole_file
from tests.disk.killing import count_operations, kill

OLD, NEW = b"old " * 400, b"new " * 900


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_kill_at_any_operation_leaves_the_old_or_the_new_file(tmp_path):
    (tmp_path / "counted").write_bytes(OLD)
    num_points = count_operations(lambda: write_whole_file(tmp_path / "counted", NEW))
    assert num_points >= 5
    contents = []
    for point in range(num_points):
        folder = tmp_path / str(point)
        folder.mkdir()
        (folder / "file").write_bytes(OLD)
        kill(lambda folder=folder: write_whole_file(folder / "file", NEW), point)
        contents.append((folder / "file").read_bytes())
        write_whole_file(folder / "file", NEW)
        assert names(folder) == ["file"]
    assert set(contents) == {OLD, NEW}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_kill_at_any_operation_leaves_no_folder_or_all_of_it(tmp_path, is_there):
    def fill(target):
        with new_folder(target) as folder:
            (folder / "deep").mkdir()
            for name in ("a", "deep/b", "deep/c"):
                (folder / name).write_text(name)

    def prepare(parent):
        (parent / "target" if is_there else parent).mkdir(parents=True)
        return parent / "target"

    counted = prepare(tmp_path / "counted")
    num_points = count_operations(lambda: fill(counted))
    results = []
    for point in range(num_points):
        target = prepare(tmp_path / str(point))
        kill(lambda target=target: fill(target), point)
        files = sorted(path.name for path in target.rglob("*") if path.is_file())
        results.append(files)
        if not files:
            fill(target)
        else:
            remove_leftovers(target.parent, "target")
        assert sorted(path.name for path in target.rglob("*")) == ["a", "b", "c", "deep"]
        assert names(target.parent) == ["target"]
    assert [] in results
    assert all(files in ([], ["a", "b", "c"]) for files in results)


def test_an_error_leaves_nothing(tmp_path):
    def fail(target):
        with new_folder(target) as folder:
            (folder / "a").write_text("a")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail(tmp_path / "target")
    assert names(tmp_path) == []


def test_links_and_modes_are_kept(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
    write_whole_file(tmp_path / "link", OLD)
    (tmp_path / "disk" / "file").chmod(0o600)
    write_whole_file(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_bytes() == NEW
    assert stat.S_IMODE((tmp_path / "disk" / "file").stat().st_mode) == 0o600
    (tmp_path / "folder").symlink_to(tmp_path / "disk2")
    (tmp_path / "disk2").mkdir()
    with new_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("a")
    assert (tmp_path / "folder").is_symlink()
    assert names(tmp_path / "disk2") == ["a"]


def test_only_paths_of_dead_processes_are_deleted(tmp_path, monkeypatch):
    code = "import sys; from pathlib import Path; from itl_hf.disk.temporary import temporary_path as t; "
    made = [sys.executable, "-c", code + "t(Path(sys.argv[1]), 'x').write_text('1')", str(tmp_path)]
    subprocess.run(made, check=True, timeout=120)
    dead = next(tmp_path.iterdir())
    own, other_name = temporary_path(tmp_path, "x"), temporary_path(tmp_path, "y")
    alive = tmp_path / dead.name.replace(dead.name.split("-")[-2], str(os.getppid()))
    machine = tmp_path / ".x-elsewhere-1-00000000.itl-hf.tmp"
    foreign = [tmp_path / name for name in (".x-notes", "x", ".x-1-00000000.tmp")]
    for path in (own, other_name, alive, machine, *foreign):
        path.write_text("1")
    remove_leftovers(tmp_path, "x")
    assert not dead.exists()
    assert all(path.exists() for path in (own, other_name, alive, machine, *foreign))
    assert is_temporary(own.name)
    assert not any(is_temporary(path.name) for path in foreign)
    day = 24 * 3600
    os.utime(machine, (time.time() - 2 * day,) * 2)
    temporary._own_tokens.clear()  # as if a process before this one had had the same number
    remove_leftovers(tmp_path, "x")
    assert not machine.exists()
    assert not own.exists()


def test_a_temporary_folder_is_private_and_deleted(tmp_path):
    with temporary_folder("job", tmp_path) as folder:
        (folder / "a").mkdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(tmp_path) == []


def test_long_names(tmp_path):
    write_whole_file(tmp_path / ("n" * 250), OLD)
    assert names(tmp_path) == ["n" * 250]


def test_a_lock_is_waited_for_as_long_as_was_asked(tmp_path):
    with lock_folder(tmp_path, "somebody writes"):
        start = time.monotonic()
        with pytest.raises(BlockingIOError, match="somebody writes"), lock_folder(tmp_path, "somebody writes", 0.3):
            pass
        assert 0.3 <= time.monotonic() - start < 5
    with lock_folder(tmp_path, "somebody writes") as has_waited:
        assert not has_waited


def test_checks_name_the_path_and_leave_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    with pytest.raises(NotADirectoryError, match=r"--store .*file is a file, not a folder"):
        check_writable_folder(tmp_path / "file" / "deeper", "--store")
    with pytest.raises(IsADirectoryError, match=r"--report .*full is a folder"):
        check_output_file(tmp_path / "full", "--report")
    with pytest.raises(NotADirectoryError, match="--report"):
        check_output_file(tmp_path / "file" / "report.html", "--report")
    with pytest.raises(FileExistsError, match=r"full is not empty \(a\)"):
        check_new_folder(tmp_path / "full")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    with pytest.raises(FileExistsError, match="is the working directory"):
        check_new_folder(Path("."))
    for path in ("new", "new/er/est"):
        check_new_folder(tmp_path / path)
        check_output_file(tmp_path / path)
    assert names(tmp_path) == ["cwd", "file", "full"]
    monkeypatch.setenv("HOME", "/home/alice")
    assert expand("~/x") == Path("/home/alice/x")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system in which nothing can be made")
def test_a_folder_in_which_nothing_can_be_written():
    with pytest.raises(PermissionError, match=r"nothing can be written in /proc"):
        check_writable_folder(Path("/proc/new/folder"))
