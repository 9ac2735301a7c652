"""A selection with its pool and features, and a baseline; made once, since no test changes them."""

from __future__ import annotations

import dataclasses

import pytest

from itl_hf.report.explorer import ExplorerData, gather
from tests.report.explorer.example import Example, make_example


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> Example:
    return make_example(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def baseline(tmp_path_factory) -> Example:
    """A selection by cosine similarity from the same pool."""
    return make_example(tmp_path_factory.mktemp("baseline"), acquisition="cosine", picks=20)


@pytest.fixture(scope="session")
def explorer_data(example, baseline) -> ExplorerData:
    return gather(
        example.selection,
        name="mine",
        compare=baseline.selection,
        compare_name="cosine",
        pool=example.pool,
        store=example.store,
    )


@pytest.fixture(scope="session")
def bare(example) -> ExplorerData:
    """A saved selection without pool and features."""
    return gather(dataclasses.replace(example.selection, features=None, extend_fn=None))
