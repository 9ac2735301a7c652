"""Full-text search over all rows of a pool: the text is written once to a file that Arrow maps into memory.

Each search then compares bytes in the order of the rows, without reading the rows again and without holding the text of
a large pool in memory.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from itl_hf.report.explorer.private_folder import PrivateFolder
from itl_hf.report.explorer.row_text import search_key, searched_text, text_of

if TYPE_CHECKING:
    from itl_hf.text import TextRows

_BATCH_ROWS = 4096
_SCHEMA = pa.schema([("text", pa.large_string())])


class SearchIndex:
    """Finds the rows that contain a text; the file is written at the first search and deleted with the index.

    Args:
        rows (`TextRows`):
            The text of the pool's rows.

    Example:
        >>> from datasets import Dataset
        >>> from itl_hf.text import TextRows
        >>> SearchIndex(TextRows(Dataset.from_dict({"text": ["An Apple", "a pear", "apples"]}))).matching_rows("apple")
        array([0, 2])
    """

    def __init__(self, rows: TextRows) -> None:
        self._rows = rows
        self._path: Path | None = None
        self._lock = threading.Lock()

    def matching_rows(self, query: str) -> np.ndarray:
        """Returns the numbers of the rows whose prompt or completion contains the text, ascending, (h,) int64.

        Upper and lower case are not distinguished. An empty text is in no row.
        """
        query = search_key(query)
        if not query:
            return np.zeros(0, dtype=np.int64)
        with self._lock:
            path = self._path = self._path or self._write()
        with pa.memory_map(str(path)) as source:
            batches = pa.ipc.open_file(source)
            masks = [
                pc.match_substring(batches.get_batch(number).column(0), query).to_numpy(zero_copy_only=False)
                for number in range(batches.num_record_batches)
            ]
        return np.flatnonzero(np.concatenate(masks)) if masks else np.zeros(0, dtype=np.int64)

    def _write(self) -> Path:
        folder = PrivateFolder()
        weakref.finalize(self, folder.delete)
        path = folder.path / "text.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            for start in range(0, len(self._rows), _BATCH_ROWS):
                rows = self._rows.read(range(start, min(start + _BATCH_ROWS, len(self._rows))))
                texts = [searched_text(*text_of(row)) for row in rows]
                writer.write_batch(pa.record_batch([pa.array(texts, pa.large_string())], schema=_SCHEMA))
        return path
