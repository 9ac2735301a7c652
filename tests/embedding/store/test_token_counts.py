"""Numbers of tokens in a store: kept by rows and tokenizer, merged, and counted again where a file is damaged."""

import os
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.embedding.store.token_counts import TokenCountTable, num_rows_kept

KEYS = np.array([[5, 1], [2, 9], [5, 2]], dtype=np.uint64)


def numbers_of(*lengths):
    return np.array(lengths, dtype=np.int64)


# Few different halves, so that many keys share their first one.
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


@settings(max_examples=40)
@given(parts=st.lists(ROWS, min_size=1, max_size=4), asked=ROWS)
def test_it_answers_as_a_dictionary_would(tmp_path_factory, parts, asked):
    folder, expected = tmp_path_factory.mktemp("counts"), {}
    for part in parts:
        counts = numbers_of(*(1 + 7 * first + second for first, second in part))
        expected |= dict(zip(part, counts.tolist(), strict=True))
        TokenCountTable(folder, "a").keep(np.array(part, dtype=np.uint64).reshape(-1, 2), counts)
    found_counts = TokenCountTable(folder, "a").lookup(np.array(asked, dtype=np.uint64).reshape(-1, 2)).tolist()
    # Of keys that share their first half, which real ones never do, only the first is found: others count again.
    smallest = {first: min(second for other, second in expected if other == first) for first, _ in expected}
    assert found_counts == [expected[key] if smallest.get(key[0]) == key[1] else 0 for key in asked]
    assert num_rows_kept(folder) == len(expected)


def test_rows_that_cannot_be_read_are_not_kept(tmp_path):
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(0, 4))
    assert TokenCountTable(tmp_path, "a").lookup(KEYS[:2]).tolist() == [0, 4]
    assert num_rows_kept(tmp_path) == 1


def test_each_tokenizer_has_a_file_of_its_own(tmp_path):
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(3, 4))
    assert TokenCountTable(tmp_path, "b").lookup(KEYS[:2]).tolist() == [0, 0]


def test_two_runs_at_once_lose_nothing(tmp_path):
    one, other = TokenCountTable(tmp_path, "a"), TokenCountTable(tmp_path, "a")
    one.keep(KEYS[:1], numbers_of(3))
    other.keep(KEYS[1:2], numbers_of(4))
    assert TokenCountTable(tmp_path, "a").lookup(KEYS[:2]).tolist() == [3, 4]


def test_the_same_rows_are_not_written_again(tmp_path):
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(3, 4))
    (path,) = tmp_path.glob("*.npy")
    inode = path.stat().st_ino
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(3, 4))
    assert path.stat().st_ino == inode


DAMAGE = {
    "a flipped bit": lambda content: content[:-60] + bytes([content[-60] ^ 1]) + content[-59:],
    "cut": lambda content: content[:100],
    "empty": lambda _: b"",
    "another file": lambda _: b"hello" * 50,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_and_counts_for_nothing(tmp_path, kind):
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(3, 4))
    path = tmp_path / "a.npy"
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    with pytest.warns(UserWarning, match=r"a\.npy is damaged: .*tokenized again"):
        table = TokenCountTable(tmp_path, "a")
    assert table.lookup(KEYS[:2]).tolist() == [0, 0]
    table.keep(KEYS[:2], numbers_of(3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TokenCountTable(tmp_path, "a").lookup(KEYS[:2]).tolist() == [3, 4]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    tmp_path.chmod(0o500)
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(3, 4))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_no_error_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("itl_hf.embedding.store.atomic_files.os.fsync", fail)
    TokenCountTable(tmp_path, "a").keep(KEYS[:2], numbers_of(3, 4))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".npy", ".tmp")]
