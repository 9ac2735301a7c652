"""Inputs that broke a reader once: each is read, or refused by an error that names the file."""

from __future__ import annotations

import json
import resource
import time

import pytest

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
SECONDS, MEBIBYTES = 20, 300


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, inputs in BROKE.items() for one in inputs])
def test_inputs_that_broke_a_reader(name, content):
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    run(name, content)
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEBIBYTES * 1024


@pytest.mark.parametrize("name", MODULES)
def test_seeds_are_read(name):
    for seed in reader(name).seeds():
        run(name, seed)


def test_a_record_of_wrong_types_is_refused():
    seed = json.loads(reader("record").seeds()[0])
    for entry in ([], 3, "x", {**seed["record"], "kernel_options": None}):
        run("record", json.dumps({**seed, "record": entry}).encode())
