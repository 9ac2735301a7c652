import io
import sys
from typing import ClassVar

import datasets
import numpy as np
import pytest
from tqdm import tqdm

from itl_hf.embedding import embed, progress
from itl_hf.embedding.progress import LogLines, Progress, draws_bars
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
    monkeypatch.setattr("itl_hf.embedding.progress.draws_bars", lambda: True)


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
    bar = Progress("embedding", 24, 0, True, other_files)
    bar.add_rows(4)
    bar.finish_shard(None)
    assert visible_bars()[0].n == 4
    (tmp_path / "shard-1").touch()
    bar.finish_shard(None)
    assert visible_bars()[0].n == 8
    bar.finish_shard(None)
    assert visible_bars()[0].n == 8


def test_other_processes_show_no_bar():
    with Progress("embedding", 24, 0, False) as bar:
        bar.add_rows(4)
        bar.add_stored_rows(4)
        bar.finish_shard(None)
    assert not visible_bars()


class Clock:
    """The time that bars read; it moves when a test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock of a run whose stderr is a file."""
    clock = Clock()
    monkeypatch.setattr(progress, "draws_bars", lambda: False)
    monkeypatch.setattr("tqdm.std.time", clock)
    return clock


def test_a_log_gets_a_line_every_30_seconds(clock, capsys):
    with Progress("embedding pool", 1000, 0, True) as bar:
        for _ in range(100):  # two seconds each
            clock.seconds += 2
            bar.add_rows(10)
            bar.finish_shard(None)
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert 200 // 30 <= len(lines) <= 200 // 30 + 1
    assert "\r" not in text
    assert all(line.startswith("embedding pool:") and "row/s" in line for line in lines)
    assert "1000/1000" in lines[-1]


def test_a_log_has_the_tokens_and_no_line_for_each_shard(clock, capsys):
    with Progress("embedding pool", 100, 0, True) as bar:
        for _ in range(10):
            clock.seconds += 5
            bar.add_rows(10)
            bar.finish_shard(np.full(10, 7))
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert len(lines) == 2
    assert "14 tokens/s" in lines[-1]


def test_short_work_and_quiet_runs_leave_a_log_empty(clock, capsys, monkeypatch):
    with Progress("embedding pool", 10, 0, True) as bar:
        clock.seconds += 5
        bar.add_rows(10)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with Progress("embedding pool", 10, 0, True) as bar:
        clock.seconds += 100
        bar.add_rows(10)
    assert capsys.readouterr().err == ""


def test_where_bars_are_drawn(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class NotebookBar(tqdm):
        pass

    NotebookBar.__module__ = "tqdm.notebook"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "tqdm", tqdm)
    assert not draws_bars()
    monkeypatch.setattr(progress, "tqdm", NotebookBar)
    assert draws_bars()
    monkeypatch.setattr(progress, "tqdm", tqdm)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert draws_bars()


def test_the_bar_of_a_log_is_not_that_of_a_terminal(clock):
    assert isinstance(Progress("embedding", 1, 0, True)._bar, LogLines)
