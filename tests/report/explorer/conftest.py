"""A selection with its pool and features, and a baseline; made once, since no test changes them."""

from __future__ import annotations

import dataclasses

import pytest

from itl_hf.report.explorer import ExplorerData, gather
from tests.report.explorer.made import Made, make


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def baseline(tmp_path_factory) -> Made:
    """A selection by cosine similarity from the same pool."""
    return make(tmp_path_factory.mktemp("baseline"), acquisition="cosine", picks=20)


@pytest.fixture(scope="session")
def explorer_data(made, baseline) -> ExplorerData:
    return gather(
        made.selection, name="mine", compare=baseline.selection, compare_name="cosine", pool=made.pool, store=made.store
    )


@pytest.fixture(scope="session")
def bare(made) -> ExplorerData:
    """A saved selection without pool and features."""
    return gather(dataclasses.replace(made.selection, features=None, extend_fn=None))
