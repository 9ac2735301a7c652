import io
from typing import ClassVar

import datasets
import pytest
from tqdm import tqdm

from itl_hf.embedding import embed
from itl_hf.embedding.progress import Progress
from tests.embedding.fakes import CountingTokens, HashEmbedder

TEXTS = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(20)]})


class Bar(tqdm):
    """A bar that writes to a string as to a terminal; the class keeps all bars."""

    instances: ClassVar[list] = []

    def __init__(self, *args, disable=None, **kwargs):
        self.text, self.options, self.is_shown = io.StringIO(), kwargs, not disable
        super().__init__(*args, disable=bool(disable), file=self.text, mininterval=0, **kwargs)
        Bar.instances.append(self)


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    Bar.instances = []
    monkeypatch.setattr("itl_hf.embedding.progress.tqdm", Bar)


def visible_bars():
    return [bar for bar in Bar.instances if bar.is_shown]


def test_rows_and_tokens_per_second(tmp_path):
    embed(TEXTS, CountingTokens(seconds=0.01), tmp_path, shard_rows=5, description="embedding pool")
    (bar,) = visible_bars()
    assert (bar.total, bar.n, bar.options["initial"]) == (20, 20, 0)
    text = bar.text.getvalue()
    assert "embedding pool" in text
    assert "row/s" in text
    assert "tokens/s" in text


def test_without_token_counts_there_is_no_token_rate():
    embed(TEXTS, HashEmbedder())
    assert "tokens/s" not in visible_bars()[0].text.getvalue()


def test_a_continued_run_starts_at_the_stored_rows(tmp_path):
    with pytest.raises(ValueError, match="the model failed"):
        embed(TEXTS, HashEmbedder(bad_text="row 12"), tmp_path, shard_rows=5)
    Bar.instances.clear()
    embed(TEXTS, HashEmbedder(), tmp_path)
    (bar,) = visible_bars()
    assert (bar.total, bar.n, bar.options["initial"]) == (20, 20, 10)


def test_a_finished_store_shows_no_bar(tmp_path):
    embed(TEXTS, HashEmbedder(), tmp_path)
    Bar.instances.clear()
    embed(TEXTS, HashEmbedder(), tmp_path)
    assert not visible_bars()


def test_rows_of_other_processes_are_counted_by_their_files(tmp_path):
    damaged = tmp_path / "shard-3"
    damaged.touch()
    other_files = [[(tmp_path / "shard-1", 4), (damaged, 4), (tmp_path / "shard-5", 4)]]
    progress = Progress("embedding", 24, 0, True, other_files)
    progress.add_rows(4)
    progress.finish_shard(None)
    assert visible_bars()[0].n == 4
    (tmp_path / "shard-1").touch()
    progress.finish_shard(None)
    assert visible_bars()[0].n == 8
    progress.finish_shard(None)
    assert visible_bars()[0].n == 8


def test_other_processes_show_no_bar():
    with Progress("embedding", 24, 0, False) as progress:
        progress.add_rows(4)
        progress.add_stored_rows(4)
        progress.finish_shard(None)
    assert not visible_bars()
