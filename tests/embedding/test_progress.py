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
    """A bar that believes in its terminal, and is kept."""

    made: ClassVar[list] = []

    def __init__(self, *args, disable=None, **kwargs):
        self.text, self.asked, self.was_shown = io.StringIO(), kwargs, not disable
        super().__init__(*args, disable=bool(disable), file=self.text, mininterval=0, **kwargs)
        Bar.made.append(self)


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    Bar.made = []
    monkeypatch.setattr("itl_hf.embedding.progress.tqdm", Bar)


def shown():
    return [bar for bar in Bar.made if bar.was_shown]


def test_rows_and_tokens_per_second(tmp_path):
    embed(TEXTS, CountingTokens(seconds=0.01), tmp_path, shard_rows=5, description="embedding pool")
    (bar,) = shown()
    assert (bar.total, bar.n, bar.asked["initial"]) == (20, 20, 0)
    text = bar.text.getvalue()
    assert "embedding pool" in text
    assert "row/s" in text
    assert "tokens/s" in text


def test_no_tokens_no_rate_of_them():
    embed(TEXTS, HashEmbedder())
    assert "tokens/s" not in shown()[0].text.getvalue()


def test_taken_up_again_it_begins_where_it_was(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        embed(TEXTS, HashEmbedder(bad_text="row 12"), tmp_path, shard_rows=5)
    Bar.made.clear()
    embed(TEXTS, HashEmbedder(), tmp_path)
    (bar,) = shown()
    assert (bar.total, bar.n, bar.asked["initial"]) == (20, 20, 10)


def test_nothing_to_do_shows_nothing(tmp_path):
    embed(TEXTS, HashEmbedder(), tmp_path)
    Bar.made.clear()
    embed(TEXTS, HashEmbedder(), tmp_path)
    assert not shown()


def test_the_work_of_others_is_seen_by_their_files(tmp_path):
    damaged = tmp_path / "shard-3"
    damaged.touch()
    elsewhere = [[(tmp_path / "shard-1", 4), (damaged, 4), (tmp_path / "shard-5", 4)]]
    progress = Progress("embedding", 24, 0, True, elsewhere)
    progress.rows(4)
    progress.shard(None)
    assert shown()[0].n == 4
    (tmp_path / "shard-1").touch()
    progress.shard(None)
    assert shown()[0].n == 8
    progress.shard(None)
    assert shown()[0].n == 8


def test_other_processes_show_nothing():
    with Progress("embedding", 24, 0, False) as progress:
        progress.rows(4)
        progress.found(4)
        progress.shard(None)
    assert not shown()
