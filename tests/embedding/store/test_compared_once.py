"""The checksum of a file is compared once for each of its states."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from itl_hf.embedding.store import atomic_files
from itl_hf.embedding.store.atomic_files import DamagedError, read_verified, write_atomic


@pytest.fixture
def path(tmp_path):
    write_atomic(tmp_path / "file", b"0123456789")
    return tmp_path / "file"


@pytest.fixture
def num_hashes(monkeypatch):
    calls = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *content: calls.append(content) or sha256(*content))
    return lambda: len(calls)


def flip(path):
    """Changes a byte of a file and sets its time back."""
    before = path.stat()
    time.sleep(0.05)  # longer than a step of the file system's clock
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_settled_file_is_hashed_once(path, num_hashes, monkeypatch):
    monkeypatch.setattr(atomic_files, "_SETTLED_SECONDS", -1.0)
    assert [bytes(read_verified(path)) for _ in range(3)] == [b"0123456789"] * 3
    assert num_hashes() == 1
    write_atomic(path, b"9876543210")
    assert bytes(read_verified(path)) == b"9876543210"
    assert num_hashes() == 3  # of the writing and of the reading


def test_a_file_that_has_just_changed_is_hashed_each_time(path, num_hashes):
    for _ in range(2):
        read_verified(path)
    assert num_hashes() == 2


def test_a_change_is_seen_whatever_time_the_file_shows(path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_SETTLED_SECONDS", -1.0)
    read_verified(path)
    flip(path)
    with pytest.raises(DamagedError, match="its checksum differs"):
        read_verified(path)
