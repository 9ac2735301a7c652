"""Folders of selections under random operations: each holds one whole selection or none, and files of others stay."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from itl_hf import Selection, Selector
from itl_hf.selection.result.folder import COMMITTED, FACTS, FILES, complete_selection
from tests.selection.result.test_folder import POOL, Lengths
from tests.stateful.machine import QUICK, THOROUGH, FolderMachine, flip_byte, kill_at

NAMES = st.sampled_from(("one", "two"))
NUMBERS = st.integers(0, 2)
POINTS = st.integers(0, 60)  # writing a selection takes fewer file operations
FOREIGN = {"notes.md": b"mine", ".git/HEAD": b"ref", "data/own.csv": b"a,b", "report.html": b"<p>"}


@functools.cache
def selections():
    """Three selections of other lengths."""
    return [Selector(Lengths()).select(POOL, [{"prompt": "an apple"}], count) for count in (2, 3, 4)]


@functools.cache
def dead_process():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class SelectionFolderMachine(FolderMachine):
    """The model: the number of each folder's selection, which of its files are damaged, and the files of others."""

    @initialize()
    def start(self):
        self.numbers, self.damaged, self.others, self.leftovers = {}, {}, {}, {}

    def path(self, name):
        return self.folder / name

    def holds(self, name):
        """The number of the selection that is read, after a kill."""
        try:
            loaded = Selection.load(self.path(name))
        except FileNotFoundError:
            return None
        return next(number for number, one in enumerate(selections()) if len(one) == len(loaded))

    @rule(name=NAMES, number=NUMBERS, overwrite=st.booleans())
    def save(self, name, number, overwrite):
        job = lambda: selections()[number].save(self.path(name), overwrite=overwrite)
        is_there, is_damaged = name in self.numbers, bool(self.damaged.get(name))
        if self.refuses_to_replace(name) or (
            is_there and not overwrite and (is_damaged or self.numbers[name] != number)
        ):
            with pytest.raises(FileExistsError, match=name):
                job()
        elif not is_there and self.others.get(name) and not overwrite:
            with pytest.raises(FileExistsError, match="holds no selection but other files"):
                job()
        else:
            job()
            self.numbers[name], self.damaged[name] = number, set()
            self.leftovers[name] = False

    def refuses_to_replace(self, name):
        """A `selection.json` that is no JSON any more might be a file of something else."""
        return FACTS in self.damaged.get(name, ()) and not _is_json(self.path(name) / FACTS)

    @rule(name=NAMES, number=NUMBERS, point=POINTS)
    def die_while_saving(self, name, number, point):
        if self.damaged.get(name):
            return
        before = self.numbers.get(name)
        kill_at(lambda: selections()[number].save(self.path(name), overwrite=True), point)
        after = self.holds(name)
        assert after in (before, number)
        if after is not None:
            self.numbers[name] = after
        self.leftovers[name] = True
        self.damaged.setdefault(name, set())

    @rule(name=NAMES)
    def complete(self, name):
        """As commands do that let other programs read the folder."""
        complete_selection(self.path(name))
        if name in self.numbers:
            assert not (self.path(name) / COMMITTED).exists()
            self.leftovers[name] = False

    @rule(name=NAMES, file=st.sampled_from(sorted(FOREIGN)))
    def foreign_file(self, name, file):
        path = self.path(name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FOREIGN[file])
        self.others.setdefault(name, set()).add(file)

    @rule(name=NAMES)
    def leftover_of_a_dead_process(self, name):
        folder = self.path(name) / f".selection-{socket.gethostname()}-{dead_process()}-00000000.itl-hf.tmp"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).write_text("{}")
        self.leftovers[name] = True

    @rule(name=NAMES, file=st.sampled_from(FILES), position=st.integers(0, 9999))
    def damage(self, name, file, position):
        if name not in self.numbers or file in self.damaged[name]:
            return
        complete_selection(self.path(name))
        path = self.path(name) / file
        content = path.read_bytes()
        flip_byte(path, position)
        if file == FACTS and path.read_bytes()[position % len(content)] in b" \n\t\r0*":  # perhaps white space only
            path.write_bytes(content)
        else:
            self.damaged[name].add(file)

    @rule(name=NAMES, file=st.sampled_from(FILES[1:]))
    def delete(self, name, file):
        if name in self.numbers and not self.damaged[name]:
            complete_selection(self.path(name))
            (self.path(name) / file).unlink()
            with pytest.raises(ValueError, match=Path(file).name):
                Selection.load(self.path(name))
            self.damaged[name].add(file)

    @rule()
    def swap(self):
        """Moves both folders; a selection does not know where it is."""
        moves = [("one", "third"), ("two", "one"), ("third", "two")]
        for source, target in moves:
            if self.path(source).exists():
                self.path(source).rename(self.path(target))
        for facts in (self.numbers, self.damaged, self.others, self.leftovers):
            one, two = facts.pop("one", None), facts.pop("two", None)
            facts.update({name: value for name, value in (("one", two), ("two", one)) if value is not None})

    @rule()
    def mix(self):
        """A file of one folder is put into the other, as by an interrupted copy."""
        if set(self.numbers) != {"one", "two"} or any(self.damaged.values()):
            return
        for name in ("one", "two"):
            complete_selection(self.path(name))
        if self.numbers["one"] != self.numbers["two"]:
            source, target = (self.path(name) / "arrays.safetensors" for name in ("one", "two"))
            target.write_bytes(source.read_bytes())
            self.damaged["two"].add("arrays.safetensors")

    @invariant()
    def each_folder_holds_its_selection(self):
        for name in ("one", "two"):
            if name not in self.numbers:
                with pytest.raises(FileNotFoundError, match="holds no selection"):
                    Selection.load(self.path(name))
            elif self.damaged[name]:
                names = "|".join(Path(file).name for file in self.damaged[name])
                with pytest.raises(ValueError, match=f"{name}.*({names})"):
                    Selection.load(self.path(name))
            else:
                loaded, expected = Selection.load(self.path(name)), selections()[self.numbers[name]]
                assert loaded.indices.tolist() == expected.indices.tolist()
                assert loaded.gains.tolist() == expected.gains.tolist()
                assert loaded.dataset["prompt"][:] == expected.dataset["prompt"][:]
                assert loaded.record == expected.record

    @invariant()
    def files_of_others_stay_and_nothing_else_is_left(self):
        for name in ("one", "two"):
            folder, others = self.path(name), self.others.get(name, set())
            assert all((folder / file).read_bytes() == FOREIGN[file] for file in others)
            if folder.exists() and not self.leftovers.get(name) and not self.damaged.get(name):
                files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
                assert files == others | (set(FILES) if name in self.numbers else set())
        assert set(os.listdir(self.folder)) <= {"one", "two"}


def _is_json(path):
    try:
        return "format_version" in json.loads(path.read_bytes())
    except ValueError:
        return False


class TestSelectionFolder(SelectionFolderMachine.TestCase):
    settings = settings(QUICK, max_examples=12)


@pytest.mark.slow
class TestSelectionFolderThoroughly(SelectionFolderMachine.TestCase):
    settings = THOROUGH
