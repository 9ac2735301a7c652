"""The default cache: what it keeps and for whom, its privacy, disks that fail, and several processes."""

import errno
import os
import stat
import sys
import time
import warnings

import datasets
import numpy as np
import pytest
import torch

from itl_hf import HiddenStates, Selector
from itl_hf.embedding import cached, embed
from itl_hf.embedding.cache_identity import cache_identity
from itl_hf.embedding.cached import embed_cached
from itl_hf.embedding.embedders.combined import Combined
from itl_hf.embedding.row_keys import text_columns
from itl_hf.embedding.store.cache import FeatureCache, default_cache_folder
from tests.embedding.fakes import HashEmbedder
from tests.tiny_models import tiny_model, tiny_tokenizer

POOL = datasets.Dataset.from_dict({"text": [f"secret pool row {i}" for i in range(40)]})
TARGETS = datasets.Dataset.from_dict({"text": [f"secret target {i}" for i in range(4)]})


@pytest.fixture(autouse=True)
def no_earlier_warning(monkeypatch):
    monkeypatch.setattr(cached, "_folders_with_warning", set())


def select(embedder, **options):
    return Selector(embedder, **options).select(POOL, TARGETS, 5)


def modes(folder):
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


def test_the_folder_is_that_of_the_variable_or_of_hugging_face(monkeypatch, tmp_path):
    monkeypatch.setenv("ITL_HF_CACHE", str(tmp_path / "mine"))
    assert default_cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("ITL_HF_CACHE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    assert default_cache_folder() == tmp_path / "hf" / "itl_hf"


def test_asking_again_embeds_nothing_and_picks_the_same(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    first, again = HashEmbedder(), HashEmbedder()
    one = select(first)
    assert first.rows_embedded == 44
    assert "KiB of features kept in" in capsys.readouterr().err
    two = select(again)
    assert again.rows_embedded == 0
    assert "kept in" not in capsys.readouterr().err
    assert (one.indices == two.indices).all()
    assert one.record == two.record
    entries = FeatureCache().entries()
    assert sorted(entry.rows for entry in entries) == [4, 40]
    assert all(entry.is_finished and entry.num_bytes > 0 and entry.model == "hash" for entry in entries)


def test_only_the_user_can_read_it_and_it_holds_no_text():
    os.umask(0o022)
    select(HashEmbedder())
    folder = FeatureCache().folder
    assert modes(folder) == {0o700}
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"secret" not in content


def test_store_false_keeps_nothing():
    embedder = HashEmbedder()
    select(embedder, store=False)
    assert not FeatureCache().folder.exists()
    select(embedder, store=False)
    assert embedder.rows_embedded == 88


def test_a_store_of_ones_own_leaves_the_cache_empty(tmp_path):
    select(HashEmbedder(), store=tmp_path / "store")
    assert not FeatureCache().folder.exists()


def test_weights_that_change_are_embedded_again():
    embedder = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())
    before = select(embedder)
    assert len(FeatureCache().entries()) == 2
    with torch.no_grad():
        next(embedder.model.parameters()).mul_(1.5)
    after = select(embedder)
    assert len(FeatureCache().entries()) == 4
    assert before.record.embedder["weights"] != after.record.embedder["weights"]
    assert np.abs(np.asarray(before.features) - embed(POOL, embedder)[before.indices]).max() > 1e-4
    np.testing.assert_array_equal(after.features, embed(POOL, embedder)[after.indices])


class Wrapper(HashEmbedder):
    """Holds a model that its fingerprint does not name."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(2, 2)


class Declared(Wrapper):
    default_cache = True


MODEL = torch.nn.Linear(2, 2)


class ReadsGlobal(HashEmbedder):
    def embed(self, rows, *, first_row=0, on_rows=None):
        return super().embed(rows, first_row=first_row, on_rows=on_rows) + MODEL.weight.sum().item() * 0


def edited(function):
    return type("HashEmbedder", (HashEmbedder,), {"_one": function})()


def test_which_embedders_of_others_are_kept():
    kept = lambda embedder: cache_identity(embedder, embedder.fingerprint())
    assert kept(Wrapper()) is None
    assert kept(ReadsGlobal()) is None
    assert kept(Declared()) is not None
    assert kept(Combined([HashEmbedder(), Wrapper()])) is None
    assert kept(Combined([HashEmbedder(), HashEmbedder()])) is not None
    own = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())
    assert kept(own) == own.fingerprint()
    codes = [
        kept(edited(lambda self, text: torch.ones(8)))["code"],
        kept(edited(lambda self, text: torch.ones(8) * 2))["code"],
        kept(edited(lambda self, text: torch.ones(8)))["code"],
    ]
    assert codes[0] == codes[2] != codes[1]


def fails_to_write(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["embedding.store.feature_store.write_shard", "embedding.store.cache.Path.mkdir"])
def test_a_full_disk_falls_back_to_memory_and_says_so_once(monkeypatch, place):
    expected = select(HashEmbedder(), store=False)
    monkeypatch.setattr(f"itl_hf.{place}", fails_to_write)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        selection = select(HashEmbedder())
    messages = [str(one.message) for one in caught if "features cannot be kept" in str(one.message)]
    assert len(messages) == 1  # for the pool and the targets
    assert "No space left on device" in messages[0]
    assert "store=False" in messages[0]
    assert (selection.indices == expected.indices).all()


@pytest.mark.skipif(os.geteuid() == 0 or sys.platform == "win32", reason="root may write everywhere")
def test_a_read_only_folder_falls_back_to_memory(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("ITL_HF_CACHE", str(folder))
    with pytest.warns(UserWarning, match="features cannot be kept"):
        assert len(select(HashEmbedder())) == 5


def test_a_file_in_the_place_of_the_folder_falls_back_to_memory(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("ITL_HF_CACHE", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="features cannot be kept"):
        assert len(select(HashEmbedder())) == 5


def test_errors_of_the_rows_are_not_taken_for_those_of_the_disk():
    with pytest.raises(ValueError, match="the model failed"):
        select(HashEmbedder(bad_text="secret pool row 7"))


def test_damaged_entries_are_computed_again():
    select(HashEmbedder())
    for entry in FeatureCache().entries():
        (entry.directory / "manifest.json").write_text("{")
    embedder = HashEmbedder()
    select(embedder)
    assert embedder.rows_embedded == 44
    (pool_entry,) = (entry for entry in FeatureCache().entries() if entry.rows == 40)
    (shard,) = pool_entry.directory.glob("shard-*")
    shard.write_bytes(shard.read_bytes()[:-50])
    embedder = HashEmbedder()
    with pytest.warns(UserWarning, match="damaged files"):
        select(embedder)
    assert embedder.rows_embedded == 40


def test_old_entries_are_deleted_and_nothing_else():
    cache = FeatureCache()
    select(HashEmbedder())
    (cache.folder / "notes").mkdir()
    old, recent = cache.entries()
    os.utime(old.directory / "manifest.json", (time.time() - 3 * 86_400,) * 2)
    deleted, busy = cache.clear(older_than_days=2)
    assert ([one.directory for one in deleted], busy) == ([old.directory], [])
    assert [entry.directory for entry in cache.entries()] == [recent.directory]
    cache.clear()
    assert [path.name for path in cache.folder.iterdir()] == ["notes"]


def test_using_an_entry_renews_it():
    select(HashEmbedder())
    for entry in FeatureCache().entries():
        os.utime(entry.directory / "manifest.json", (1, 1))
    select(HashEmbedder())
    assert all(time.time() - entry.last_use < 60 for entry in FeatureCache().entries())


def test_an_entry_that_is_being_written_is_not_deleted_nor_waited_for_without_end(monkeypatch):
    from itl_hf.embedding import driver
    from itl_hf.embedding.store.atomic_files import lock_for_writing

    monkeypatch.setattr(driver, "LONGEST_WAIT_SECONDS", 0.0)

    select(HashEmbedder())
    cache = FeatureCache()
    (pool_entry,) = (entry for entry in cache.entries() if entry.rows == 40)
    with lock_for_writing(pool_entry.directory):
        deleted, busy = cache.clear()
        assert (len(deleted), [entry.directory for entry in busy]) == (1, [pool_entry.directory])
        next(pool_entry.directory.glob("shard-*")).unlink()
        with pytest.warns(UserWarning, match="another run is embedding"):
            assert len(select(HashEmbedder())) == 5


def test_without_the_write_the_features_are_those_of_memory(tmp_path):
    cache, embedder = FeatureCache(tmp_path / "cache"), HashEmbedder()
    directory = cache.directory(embedder, embedder.fingerprint(), "00")
    features = embed_cached(text_columns(POOL), embedder, cache, directory)
    np.testing.assert_array_equal(np.asarray(features), embed(POOL, embedder))
