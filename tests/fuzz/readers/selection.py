"""The record, the arrays and the rows of a saved selection."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from itl_hf import Selection, select_rows
from itl_hf.selection.result import folder as selection_folder
from itl_hf.selection.result.folder import FACTS, NUMBERS, ROWS
from itl_hf.selection.result.selection import Layout
from tests.fuzz.reader import Reader, documented, json_object


@functools.cache
def _selected() -> Path:
    generator = np.random.default_rng(0)
    pool, targets = generator.normal(size=(8, 3)), generator.normal(size=(2, 3))
    picks = select_rows(pool, targets, 3)
    rows = datasets.Dataset.from_list([{"prompt": f"p{row}", "pool_index": int(row)} for row in picks.indices])
    zeros = np.zeros((3, 2), dtype=np.float32)
    layout = Layout(zeros, np.arange(3), zeros[:2], zeros, zeros[0])
    selection = Selection(
        dataset=rows,
        targets=datasets.Dataset.from_dict({"prompt": ["a", "b"]}),
        indices=picks.indices,
        gains=picks.gains,
        target_variance=picks.target_variance,
        irreducible=np.zeros(2),  # type: ignore[arg-type]
        whole_pool=np.zeros(2),  # type: ignore[arg-type]
        reach=np.ones(2),
        pool_size=8,
        record=picks.record,
        layout=layout,
    )
    return selection.save(Path(tempfile.mkdtemp(prefix="itl-hf-fuzz-selection-")) / "selected")


def _use_selection(folder: Path) -> None:
    selection = None
    with documented(folder):
        selection = Selection.load(folder)
    if selection is None:
        return
    repr(selection), len(selection), selection.diagnose()
    for method in ("acquisition", "kernel", "standardization", "column_mapping", "selection_constraints"):
        try:
            getattr(selection.record, method)()
        except ValueError as error:  # and nothing else
            if type(error) is not ValueError:
                raise


def _sign(folder: Path, facts: dict[str, Any]) -> None:
    """Writes facts with the checksums of the other files and the version that belong to them."""
    facts.pop("version", None)
    names = selection_folder.FILES[1:]
    facts["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    facts["version"] = selection_folder._version(facts)
    (folder / FACTS).write_text(json.dumps(facts))


def _read_record(content: bytes, folder: Path) -> None:
    copy = shutil.copytree(_selected(), folder / "selected")
    facts = json_object(content)
    if facts is None:
        (copy / FACTS).write_bytes(content)
    else:
        _sign(copy, facts)
    _use_selection(copy)


def _read_arrays(content: bytes, folder: Path) -> None:
    copy = shutil.copytree(_selected(), folder / "selected")
    (copy / NUMBERS).write_bytes(content)
    _sign(copy, json.loads((copy / FACTS).read_bytes()))
    _use_selection(copy)


def _read_picked_rows(content: bytes, folder: Path) -> None:
    copy = shutil.copytree(_selected(), folder / "selected")
    (copy / ROWS).write_bytes(content)
    _sign(copy, json.loads((copy / FACTS).read_bytes()))
    _use_selection(copy)


_FIELDS = ("format_version", "pool_size", "record", "layout", "kernel_options", "acquisition_name", "constraints")
READERS = {
    "record": Reader(_read_record, lambda: [(_selected() / FACTS).read_bytes()], _FIELDS),
    "arrays": Reader(_read_arrays, lambda: [(_selected() / NUMBERS).read_bytes()], ("F64", "BF16", "data_offsets")),
    "picked_rows": Reader(_read_picked_rows, lambda: [(_selected() / ROWS).read_bytes()], ("PAR1", "huggingface")),
}
