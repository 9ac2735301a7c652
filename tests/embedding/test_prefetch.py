import contextlib
import threading
import time

import datasets
import numpy as np
import pytest

from itl_hf.embedding import embed
from itl_hf.embedding.prefetch import prefetch
from tests.embedding.fakes import HashEmbedder, Preparing

TEXTS = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(20)]})


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "itl_hf-prefetch"]


def test_items_keep_their_order_and_the_thread_ends():
    assert list(prefetch(iter(range(100)))) == list(range(100))
    assert list(prefetch(iter([]))) == []
    assert not threads()


def test_only_a_few_items_are_computed_in_advance():
    computed_items = []

    def items():
        for i in range(50):
            computed_items.append(i)
            yield i

    with contextlib.closing(prefetch(items(), depth=2)) as results:
        assert next(results) == 0
        deadline = time.monotonic() + 5
        while len(computed_items) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert computed_items == [0, 1, 2, 3]  # one in use, two in the queue, one that the thread holds
    assert not threads()


def test_an_error_is_raised_in_place_of_its_item():
    def items():
        yield 1
        yield 2
        raise KeyError("third")

    results = prefetch(items())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(results)
    assert not threads()


def test_the_next_shard_is_prepared_while_the_model_runs():
    embedder = Preparing(seconds=0.1)
    features = embed(TEXTS, embedder, shard_rows=5)
    np.testing.assert_array_equal(features, embed(TEXTS, HashEmbedder()))
    assert embedder.threads == {"itl_hf-prefetch"}
    assert embedder.events.index(("prepared", 5)) < embedder.events.index(("embedded", 0))
    assert embedder.events.index(("prepared", 10)) < embedder.events.index(("embedded", 5))


def test_what_was_embedded_before_an_unreadable_row_is_kept(tmp_path):
    with pytest.raises(ValueError, match="row 12: cannot be read"):
        embed(TEXTS, Preparing(unreadable="row 12"), tmp_path, shard_rows=5)
    assert len(list(tmp_path.glob("*.arrow"))) == 2
    assert not threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_ends_the_thread_too(tmp_path, error):
    class Interrupted(Preparing):
        def embed_prepared(self, prepared_rows, *, on_rows=None):
            if prepared_rows[1] == 10:
                raise error
            return super().embed_prepared(prepared_rows, on_rows=on_rows)

    with pytest.raises(error):
        embed(TEXTS, Interrupted(), tmp_path, shard_rows=5)
    assert not threads()
    again = HashEmbedder()
    embed(TEXTS, again, tmp_path)
    assert again.rows_embedded == 10
