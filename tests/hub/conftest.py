"""The Hub of these tests, and a process in which the unmodified `huggingface_hub` and `datasets` use it.

Both libraries read the address of the Hub when they are imported, and in the process of the tests they are imported
already. Therefore the client is a process of its own. It is started once, and functions with their arguments are sent
to it as to any process pool.
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
from itl_hf.hub.contents import public_selection
from itl_hf.hub.restore import VARIANCE_COLUMN
from tests.hub_server import TOKEN, HubServer

SECRET = "zebras juggle quartz violins"
#: A commit on the Hub: without one, the name of a model is not published.
COMMIT = "0123456789abcdef" * 2 + "01234567"


class LetterCounts(Embedder):
    """A row's features are how often each letter occurs in it."""

    dimension = 26

    def fingerprint(self):
        return {"embedder": "letter counts", "model": "someone/letters", "revision": COMMIT}

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
    return make_selection(POOL, TARGETS, 6, store=store)


def make_selection(pool, targets, picks, **options):
    """Without the function that extends it, which cannot be sent to another process."""
    pool, targets = datasets.Dataset.from_list(pool), datasets.Dataset.from_list(targets)
    return dataclasses.replace(Selector(LetterCounts(), **options).select(pool, targets, picks), extend_fn=None)


class Client:
    """Calls functions in the process that uses the Hub of the tests."""

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


def published(selection, with_targets=False):
    """What is published of a selection."""
    public = public_selection(selection, with_targets)
    return dataclasses.replace(public, dataset=public.dataset.remove_columns(VARIANCE_COLUMN))


def assert_same(selection, other, with_targets=False):
    """Asserts that a selection that was loaded is the one that was published."""
    selection = published(selection, with_targets)
    assert other.dataset.to_list() == selection.dataset.to_list()
    assert other.dataset.features == selection.dataset.features
    assert other.record == selection.record
    assert other.pool_size == selection.pool_size
    for name in ("indices", "gains", "target_variance", "irreducible", "whole_pool", "reach"):
        np.testing.assert_array_equal(getattr(other, name), getattr(selection, name))
    for name, points in vars(selection.layout).items():
        np.testing.assert_array_equal(getattr(other.layout, name), points)
