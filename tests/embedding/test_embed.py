import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from itl_hf.embedding import HiddenStates, embed
from tests.embedding.fakes import HashEmbedder
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[2]
ROWS = 40


def texts(rows=ROWS, **columns):
    return datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(rows)], **columns})


def test_rows_in_order_with_and_without_a_directory(tmp_path):
    dataset = texts(23)
    memory = embed(dataset, HashEmbedder(), shard_rows=5)
    stored = embed(dataset, HashEmbedder(), tmp_path, shard_rows=7)
    assert memory.shape == (23, 8)
    assert memory.dtype == stored.dtype == np.float32
    np.testing.assert_array_equal(memory, stored)
    np.testing.assert_array_equal(memory[11:12], embed(dataset.select([11]), HashEmbedder()))


def test_a_second_run_embeds_nothing(tmp_path):
    first, second = HashEmbedder(), HashEmbedder()
    features = embed(texts(), first, tmp_path, shard_rows=16)
    np.testing.assert_array_equal(embed(texts(), second, tmp_path, shard_rows=9), features)
    assert (first.rows_embedded, second.rows_embedded) == (ROWS, 0)


def test_a_second_run_makes_no_forward_pass(tmp_path, monkeypatch):
    dataset = datasets.Dataset.from_dict({"text": SENTENCES})
    features = embed(dataset, HiddenStates(tiny_model(), tokenizer=tiny_tokenizer()), tmp_path)
    again = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer())

    def forbidden(*_args, **_kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(type(again.backbone.model), "forward", forbidden)
    np.testing.assert_array_equal(embed(dataset, again, tmp_path), features)
    with pytest.raises(AssertionError, match="the model ran"):
        embed(dataset, again)


def test_an_exception_keeps_finished_shards(tmp_path):
    with pytest.raises(ValueError, match="row 25: its features are not finite"):
        embed(texts(), HashEmbedder(bad_text="row 25"), tmp_path, shard_rows=10)
    again = HashEmbedder()
    embed(texts(), again, tmp_path, shard_rows=10)
    assert again.rows_embedded == 20


def test_a_damaged_shard_alone_is_computed_again(tmp_path):
    features = embed(texts(), HashEmbedder(), tmp_path, shard_rows=10)
    path = tmp_path / "shard-00002.arrow"
    path.write_bytes(path.read_bytes()[:-9])
    again = HashEmbedder()
    np.testing.assert_array_equal(embed(texts(), again, tmp_path), features)
    assert again.rows_embedded == 10


def test_other_rows_or_settings_are_refused(tmp_path):
    embed(texts(), HashEmbedder(layer=1), tmp_path)
    with pytest.raises(ValueError, match="layer: 1 there, 2 now"):
        embed(texts(), HashEmbedder(layer=2), tmp_path)
    with pytest.raises(ValueError, match="rows_hash"):
        embed(texts().select(range(ROWS - 1, -1, -1)), HashEmbedder(layer=1), tmp_path)
    embed(texts(topic=["unused"] * ROWS), HashEmbedder(layer=1), tmp_path)  # a column without text is no difference


def test_a_format_of_the_dataset_does_not_matter(tmp_path):
    embed(texts(), HashEmbedder(), tmp_path)
    again = HashEmbedder()
    embed(texts(n=list(range(ROWS))).with_format("torch", columns=["n"]), again, tmp_path)
    assert again.rows_embedded == 0


def test_a_bad_row_fails_before_the_model_runs(monkeypatch):
    embedder = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer())
    monkeypatch.setattr(embedder, "embed", lambda *_args, **_kwargs: pytest.fail("the model ran"))
    rows = [{"prompt": "fine"} for _ in range(1200)]
    rows[1100] = {"prompt": ""}
    with pytest.raises(ValueError, match="row 1100: column 'prompt' is empty"):
        embed(datasets.Dataset.from_list(rows), embedder)


def test_no_text_column():
    with pytest.raises(ValueError, match=r"found \['label'\]"):
        embed(datasets.Dataset.from_dict({"label": [1]}), HashEmbedder())


def test_truncation_is_reported_once_for_all_shards():
    dataset = datasets.Dataset.from_dict({"text": ["a", *SENTENCES * 3]})
    embedder = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer(), max_length=5)
    with pytest.warns(UserWarning, match=r"18 row\(s\) are longer than max_length=5 .* first is row 1\)") as caught:
        embed(dataset, embedder, shard_rows=4)
    assert len(caught) == 1


def test_half_precision_overflow_names_the_row():
    model = tiny_model()
    model.model.layers[0].mlp.down_proj.weight.data.mul_(1e6)
    embedder = HiddenStates(model.to(torch.float16), tokenizer=tiny_tokenizer(), layer=1)
    with pytest.raises(ValueError, match=r"row 0: its features are not finite .* dtype='float32'"):
        embed(datasets.Dataset.from_dict({"text": SENTENCES}), embedder)


def test_bad_shard_rows():
    with pytest.raises(ValueError, match="shard_rows"):
        embed(texts(), HashEmbedder(), shard_rows=0)


SLOW_RUN = """
import sys
from itl_hf.embedding import embed
from tests.embedding.fakes import HashEmbedder
from tests.embedding.test_embed import texts
embed(texts(), HashEmbedder(seconds=0.15), sys.argv[1], shard_rows=2)
"""


def shards(directory):
    return len(list(directory.glob("shard-*.arrow")))


def test_sigkill_loses_at_most_the_shard_in_flight(tmp_path):
    for wanted in (2, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_RUN, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while shards(tmp_path) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, errors
    done = shards(tmp_path)
    assert 6 <= done < ROWS // 2
    again = HashEmbedder()
    features = embed(texts(), again, tmp_path)
    assert again.rows_embedded == ROWS - 2 * done
    np.testing.assert_array_equal(features, embed(texts(), HashEmbedder()))
