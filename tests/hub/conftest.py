"""The Hub of these tests, and one process whose unmodified `huggingface_hub` and `datasets` know no other.

Both libraries read the Hub's address when they are imported, and by now they are: hence a process of its own. It is
started once, and gets functions with their arguments as any process pool does.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import datasets
import numpy as np
import pytest
import torch

from itl_hf import Embedder, Selector
from tests.hub_server import TOKEN, HubServer

SECRET = "zebras juggle quartz violins"


class LetterCounts(Embedder):
    """A row's features are how often each letter occurs in it."""

    dimension = 26

    def fingerprint(self):
        return {"embedder": "letter counts", "model": "someone/letters"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        count = lambda text: [text.lower().count(chr(97 + letter)) for letter in range(26)]
        return torch.tensor([count(row["prompt"]) for row in rows], dtype=torch.float32)


POOL = [
    {"prompt": f"{word} {other}", "completion": word, "source": word}
    for word in ("apple", "banana", "cherry", "quince")
    for other in ("river", "stone", "cloud", "window", "garden")
]
TARGETS = [{"prompt": f"{SECRET} one", "task": "secret task"}, {"prompt": "two " + SECRET, "task": "secret task"}]


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def selection(store):
    return made(POOL, TARGETS, 6, store=store)


def made(pool, targets, picks, **options):
    """Without what makes it go on: another process gets it."""
    pool, targets = datasets.Dataset.from_list(pool), datasets.Dataset.from_list(targets)
    return dataclasses.replace(Selector(LetterCounts(), **options).select(pool, targets, picks), extend_fn=None)


class Client:
    """Calls functions where the Hub is the one of the tests."""

    def __init__(self, url, home):
        settings = {
            "HF_ENDPOINT": url,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        self.processes = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with mock.patch.dict("os.environ", settings):
            self(int)

    def __call__(self, function, *arguments, **options):
        return self.processes.submit(function, *arguments, **options).result(timeout=120)


@pytest.fixture(scope="session")
def _server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="session")
def client(_server, tmp_path_factory):
    client = Client(_server.url, tmp_path_factory.mktemp("hf-home"))
    yield client
    client.processes.shutdown()


@pytest.fixture
def hub(_server):
    """The Hub, empty."""
    _server.clear()
    return _server


def same(selection, other):
    """Whether two selections are equal in all that is published."""
    assert other.dataset.to_list() == selection.dataset.to_list()
    assert other.dataset.features == selection.dataset.features
    assert other.record == selection.record
    assert other.pool_size == selection.pool_size
    for name in ("indices", "gains", "target_variance", "irreducible", "whole_pool", "reach"):
        np.testing.assert_array_equal(getattr(other, name), getattr(selection, name))
    for name, points in vars(selection.layout).items():
        np.testing.assert_array_equal(getattr(other.layout, name), points)
    return True
