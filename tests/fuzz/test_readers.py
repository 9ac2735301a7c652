"""Inputs that broke a reader once: each is read, or refused by an error that names the file."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest

from itl_hf.selection.shortlist.index_file import read_facts
from tests.fuzz.readers import MODULES, reader, run

DEEP = b"[" * 100_000
#: Found by fuzzing or by reading; each raised an error of a library, without the name of the file.
BROKE = {
    "manifest": (DEEP, b"[]"),
    "index": (DEEP, b"[]"),
    "record": (DEEP, b'{"format_version": 1, "sha256": []}', b'{"format_version": 1, "pool_size": 1, "record": []}'),
    "yaml": (b"a: !!timestamp x", b"a: !!bool foo", b"[" * 3000, b"a: &a [*a]\npool: *a", b"pool: \xff"),
    "rows": (b"\x00" + DEEP, b"\x01" + DEEP, b'\x00{"a": 1}\n' + DEEP, b'\x00{"a": ' + b"1" * 5000 + b"}"),
}
CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").rglob("*") if path.is_file())
SECONDS, MEBIBYTES = 20, 300


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, inputs in BROKE.items() for one in inputs])
def test_inputs_that_broke_a_reader(name, content):
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    run(name, content)
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEBIBYTES * 1024


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_that_broke_a_reader(path):
    """Files that `make fuzz` wrote. Each is the smallest input of one error."""
    run(path.parent.name, path.read_bytes())


def test_the_corpus_is_there():
    assert {path.parent.name for path in CORPUS} <= set(MODULES)
    assert CORPUS


@pytest.mark.parametrize("name", MODULES)
def test_seeds_are_read(name):
    for seed in reader(name).seeds():
        run(name, seed)


def test_a_record_of_wrong_types_is_refused():
    seed = json.loads(reader("record").seeds()[0])
    for entry in ([], 3, "x", {**seed["record"], "kernel_options": None}):
        run("record", json.dumps({**seed, "record": entry}).encode())


@pytest.mark.parametrize("change", [{"kind": []}, {"rows": "4"}, {"rows": True}, {"num_lists": -1}, {"lists": "a\0"}])
def test_facts_of_an_index_that_no_index_has_are_refused(change, tmp_path):
    facts = json.loads(reader("index").seeds()[0])
    (tmp_path / "nearest.json").write_text(json.dumps(facts))
    assert read_facts(tmp_path).rows == 4
    (tmp_path / "nearest.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(ValueError, match=r"nearest\.json is damaged or of another version: run itl-hf index again"):
        read_facts(tmp_path)
