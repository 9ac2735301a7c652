"""A feature store under random operations holds what a dictionary of its shards holds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from itl_hf.embedding.store.atomic_files import lock_for_writing
from itl_hf.embedding.store.cache import FeatureCache
from itl_hf.embedding.store.feature_store import FeatureStore
from tests.stateful.machine import QUICK, THOROUGH, FolderMachine, flip_byte, kill_at

FINGERPRINT = {"embedder": "e", "model": "m"}
NAME = "0123456789abcdef"  # as the cache names its entries
POINTS = st.integers(0, 9)  # writing a shard takes fewer file operations
DAMAGED = "damaged"


class StoreMachine(FolderMachine):
    """The model is `shards`: for each file of a shard the number of the writing that wrote it, or `DAMAGED`."""

    @initialize(
        index=st.none() | st.lists(st.integers(0, 6), min_size=1, max_size=9),
        shard_rows=st.integers(1, 4),
        dtype=st.sampled_from(("float32", "float16")),
    )
    def start(self, index, shard_rows, dtype):
        self.cache = FeatureCache(self.folder / "cache")
        self.directory = self.cache.folder / NAME
        _, rows = np.unique(index or range(7), return_inverse=True)
        first_rows = list(dict.fromkeys(rows.tolist()))
        self.index = np.array([first_rows.index(row) for row in rows])  # numbered by first occurrence
        self.options = {"shard_rows": shard_rows, "dtype": dtype, "index": self.index}
        self.num_stored = int(self.index.max()) + 1
        self.num_shards = -(-self.num_stored // shard_rows)
        self.shards, self.writing, self.store = {}, 0, None
        self.open()

    def open(self, fingerprint=FINGERPRINT):
        """Opens the store as a new process would."""
        return FeatureStore(self.directory, fingerprint, rows=len(self.index), dimension=2, **self.options)

    def values(self, writing):
        """The stored rows of a writing, (M, 2)."""
        columns = np.stack([np.arange(self.num_stored), np.full(self.num_stored, writing)], axis=1)
        return columns.astype(self.options["dtype"])

    def write_one(self, shard):
        store = self.store
        rows = slice(*store.row_range(shard))
        store.write(shard, self.values(self.writing)[rows], {"tokens": np.arange(self.num_stored)[rows]})

    @rule()
    def resume(self):
        self.store = self.open()

    @precondition(lambda self: self.store is not None)
    @rule(number=st.integers(0, 99))
    def write(self, number):
        shard, self.writing = number % self.num_shards, self.writing + 1
        self.write_one(shard)
        self.shards[shard] = self.writing

    @precondition(lambda self: self.store is not None)
    @rule(number=st.integers(0, 99), point=POINTS)
    def die_while_writing(self, number, point):
        shard, self.writing = number % self.num_shards, self.writing + 1
        before = self.shards.get(shard)
        kill_at(lambda: self.write_one(shard), point)
        self.store = self.open()
        path = self.store.path(shard)
        if path.exists() and before != DAMAGED:
            has_new = self.store.shard(shard)[0, 1] == self.writing
            self.shards[shard] = self.writing if has_new else before
        elif path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.shards[shard] = DAMAGED if shard in self.open().missing() else self.writing

    @precondition(lambda self: self.store is not None)
    @rule(number=st.integers(0, 99), width=st.sampled_from((0, 1, 3)))
    def write_what_does_not_fit(self, number, width):
        shard = number % self.num_shards
        first, end = self.store.row_range(shard)
        with pytest.raises(ValueError, match=f"shard {shard} takes"):
            self.store.write(shard, np.zeros((end - first, width), dtype=self.options["dtype"]))

    @precondition(lambda self: self.shards)
    @rule(number=st.integers(0, 99), position=st.integers(0, 9999))
    def damage(self, number, position):
        shard = sorted(self.shards)[number % len(self.shards)]
        path = self.directory / f"shard-{shard:05d}.arrow"
        if self.shards[shard] == DAMAGED:  # a second change of a byte might mend it
            path.write_bytes(path.read_bytes()[:-1])
        else:
            flip_byte(path, position)
        self.shards[shard] = DAMAGED
        self.store = None  # what it has checked before counts as intact

    @precondition(lambda self: self.shards)
    @rule(number=st.integers(0, 99))
    def delete(self, number):
        shard = sorted(self.shards)[number % len(self.shards)]
        self.open().path(shard).unlink()
        del self.shards[shard]
        self.store = None

    @rule(name=st.sampled_from(("notes.txt", "shard-00000 (copy).arrow", "shard-0.arrow", "shard-00001.arrow.h.1.tmp")))
    def stray_file(self, name):
        (self.directory / name).write_bytes(b"stray")

    @rule()
    def another_run_locks(self):
        with lock_for_writing(self.directory):
            assert self.cache.clear()[0] == []
        assert not list(self.directory.glob("*.tmp"))

    @rule()
    def open_with_other_settings(self):
        with pytest.raises(ValueError, match="other settings"):
            self.open({**FINGERPRINT, "model": "other"})

    @rule(position=st.integers(0, 9999))
    def damage_the_index(self, position):
        """Whoever has the rows writes it again; whoever only reads is told."""
        path = self.directory / "rows.npy"
        if not path.exists():
            return
        flip_byte(path, position)
        assert FeatureStore.requires_index(self.directory)
        self.store = self.open()
        assert not FeatureStore.requires_index(self.directory)

    @rule(days=st.sampled_from((0.0, 1.0)))
    def clear_the_cache(self, days):
        removals, busy = self.cache.clear(days)
        assert busy == []
        assert [entry.directory for entry in removals] == ([] if days else [self.directory])
        if not days:
            assert not self.directory.exists()
            self.shards, self.store = {}, None
            self.open()

    @rule(rows=st.lists(st.integers(0, 99), max_size=5))
    def read(self, rows):
        rows = [row % len(self.index) for row in rows]
        if len(self.shards) < self.num_shards:
            with pytest.raises(ValueError, match="unfinished: "):
                FeatureStore.open(self.directory)
            return
        store = FeatureStore.open(self.directory)
        shards = [int(self.index[row]) // self.options["shard_rows"] for row in rows]
        if any(self.shards[shard] == DAMAGED for shard in shards):
            with pytest.raises(ValueError, match=r"shard-\d+\.arrow \(stored rows .* is damaged"):
                store.features()[rows]
            return
        expected = [self.values(self.shards[shard])[self.index[row]] for row, shard in zip(rows, shards, strict=True)]
        np.testing.assert_array_equal(store.features()[rows], np.reshape(expected, (-1, 2)))

    @precondition(lambda self: len(self.shards) == self.num_shards and DAMAGED not in self.shards.values())
    @rule()
    def read_all(self):
        store = FeatureStore.open(self.directory)
        stored = np.concatenate(
            [self.values(self.shards[shard])[slice(*store.row_range(shard))] for shard in range(self.num_shards)]
        )
        expected = stored[self.index]
        np.testing.assert_array_equal(np.asarray(store.features()), expected)
        assert store.column("tokens").tolist() == self.index.tolist()
        statistics = store.statistics()
        assert statistics.count == len(self.index)
        np.testing.assert_allclose(statistics.mean, expected.mean(axis=0, dtype=np.float64), atol=1e-12)
        np.testing.assert_allclose(statistics.scale, expected.std(axis=0, dtype=np.float64), atol=1e-9)

    @invariant()
    def missing_shards_are_those_without_an_intact_file(self):
        intact = {shard for shard, writing in self.shards.items() if writing != DAMAGED}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names the damaged ones
            assert self.open().missing() == [shard for shard in range(self.num_shards) if shard not in intact]
        entry = self.cache.entries()[0]
        assert (entry.rows, entry.model) == (len(self.index), "m")
        assert entry.is_finished == (len(self.shards) == self.num_shards)


class StreamMachine(FolderMachine):
    """A store that a stream is appended to; the model is the list of its shards, and the number of rows at its end."""

    @initialize(shard_rows=st.integers(1, 3))
    def start(self, shard_rows):
        self.shard_rows, self.hashes, self.num_rows, self.end = shard_rows, [], 0, None
        self.resume()

    @rule()
    def resume(self):
        self.store = FeatureStore(
            self.folder / "store", FINGERPRINT, rows=None, dimension=1, shard_rows=self.shard_rows
        )

    def append_one(self, num_rows):
        values = np.arange(self.num_rows, self.num_rows + num_rows, dtype=np.float32)[:, None]
        self.store.write(len(self.hashes), values, rows_hash=f"h{len(self.hashes)}")

    @precondition(lambda self: self.end is None and self.num_rows == len(self.hashes) * self.shard_rows)
    @rule(num_rows=st.integers(1, 3))
    def append(self, num_rows):
        """A shard with fewer rows is the last one."""
        num_rows = min(num_rows, self.shard_rows)
        self.append_one(num_rows)
        self.num_rows += num_rows
        self.hashes.append(f"h{len(self.hashes)}")

    @precondition(lambda self: self.end is None and self.num_rows == len(self.hashes) * self.shard_rows)
    @rule(point=POINTS)
    def die_while_appending(self, point):
        kill_at(lambda: self.append_one(self.shard_rows), point)
        self.resume()
        if self.store.rows_hash(len(self.hashes)) is not None:
            self.num_rows += self.shard_rows
            self.hashes.append(f"h{len(self.hashes)}")

    @rule(surplus=st.integers(0, 2))
    def finish(self, surplus):
        """Fewer rows than there are shards for, and another number than the first time, are refused."""
        rows = self.num_rows - surplus * self.shard_rows
        if self.end not in (None, rows) or (surplus and self.hashes):
            with pytest.raises(ValueError, match="it was made from a longer stream"):
                self.store.finish(max(rows, 0) if self.end is None else rows)
        elif not surplus:
            self.store.finish(rows)
            self.end = rows

    @precondition(lambda self: self.end is None)
    @rule(point=POINTS)
    def die_while_finishing(self, point):
        kill_at(lambda: self.store.finish(self.num_rows), point)
        self.resume()
        assert self.store.rows in (None, self.num_rows)
        self.end = self.store.rows

    @rule()
    def read(self):
        if self.end is None:
            with pytest.raises(ValueError, match="its stream was not read to the end"):
                FeatureStore.open(self.folder / "store")
            return
        features = FeatureStore.open(self.folder / "store").features()
        assert np.asarray(features).ravel().tolist() == list(range(self.end))

    @invariant()
    def hashes_are_those_of_the_shards(self):
        assert [self.store.rows_hash(shard) for shard in range(len(self.hashes))] == self.hashes
        assert self.store.rows == self.end


class TestStore(StoreMachine.TestCase):
    settings = QUICK


class TestStream(StreamMachine.TestCase):
    settings = QUICK


@pytest.mark.slow
class TestStoreThoroughly(StoreMachine.TestCase):
    settings = THOROUGH


@pytest.mark.slow
class TestStreamThoroughly(StreamMachine.TestCase):
    settings = THOROUGH
