"""What lies beside the index of a shortlist."""

from __future__ import annotations

import json
from pathlib import Path

from itl_hf.selection.shortlist.index_file import FACTS, INDEX, open_index, read_facts
from tests.fuzz.reader import Reader, documented


def _read_index(content: bytes, folder: Path) -> None:
    (folder / FACTS).write_bytes(content)
    facts = None
    with documented(folder):
        facts = read_facts(folder)
    if facts is not None:  # there is no index beside it
        with documented(folder):
            open_index(folder / INDEX, facts)


def _index_facts() -> list[bytes]:
    facts = {"format": 1, "kind": "IVF4,Flat", "num_lists": 2, "standardization": "none", "rows": 4}
    return [json.dumps({**facts, "features": "0" * 64, "sha256": "0" * 64}).encode()]


READERS = {"index": Reader(_read_index, _index_facts, ("format", "num_lists"))}
