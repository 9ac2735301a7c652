"""Provides the names that examples in docstrings use: `model`, `tokenizer`, `pool`, `targets`, `selection`.

Loaded by `-p tests.documented`, since docstrings are outside of `tests`. Examples run in a temporary folder with the
selection in `selected` and the pool's features in `features`; it is created for the first example that needs it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from _pytest.doctest import DoctestItem

NAMES = ("model", "tokenizer", "pool", "targets", "selection")
NEEDED = re.compile(rf'\b({"|".join(NAMES)})\b|"(selected|features)')


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """Creates the folder, and returns it with the values of the names."""
    from datasets import Dataset

    from itl_hf import HiddenStates, Selector, embed
    from tests.tiny_models import tiny_model, tiny_tokenizer

    folder = tmp_path_factory.mktemp("documented")
    model, tokenizer = str(folder / "model"), tiny_tokenizer()
    tiny_model("llama").save_pretrained(model)
    tokenizer.save_pretrained(model)
    sums = [(first, second) for first in range(2, 6) for second in range(3, 9)]
    pool = Dataset.from_list([{"prompt": f"{a} + {b} =", "completion": f" {a + b}", "source": "sums"} for a, b in sums])
    targets = Dataset.from_list([{"prompt": f"{a} + 1 ="} for a in (12, 34, 56)])
    os.environ.setdefault("ITL_HF_CACHE", str(folder / "cache"))  # doctests alone do not load tests/conftest.py
    embedder = HiddenStates(model)
    embed(pool, embedder, folder / "features" / "pool")
    selection = Selector(embedder, store=folder / "features").select(pool, targets, 6)
    selection.save(folder / "selected")
    return folder, {name: value for name, value in locals().items() if name in NAMES}


@pytest.fixture(autouse=True)
def provide_names(request: pytest.FixtureRequest) -> None:
    """Adds the names to the globals of an example, and runs it in the folder."""
    item = request.node
    if isinstance(item, DoctestItem) and any(NEEDED.search(example.source) for example in item.dtest.examples):
        folder, names = request.getfixturevalue("world")
        request.getfixturevalue("monkeypatch").chdir(folder)
        request.getfixturevalue("monkeypatch").setenv("ITL_HF_CACHE", str(folder / "cache"))
        for name, value in names.items():
            item.dtest.globs.setdefault(name, value)
