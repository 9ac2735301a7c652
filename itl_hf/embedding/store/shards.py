"""Reads and writes one shard: an Arrow stream with feature rows, further columns and the statistics of the features.

`datasets` can open these files itself, and NumPy maps them without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from itl_hf.embedding.store.atomic_files import DamagedError, read_verified, write_atomic
from itl_hf.embedding.store.statistics import Statistics

FEATURES = "features"
ROW = "row"


@dataclass(frozen=True)
class Shard:
    """The content of a shard file.

    Args:
        features (`np.ndarray`):
            Shape (B, d), float16 or float32.
        columns (`Mapping[str, np.ndarray]`):
            One number for each row, shape (B,), by name: `row`, the number of the row in its dataset, and the columns
            of the embedder (`tokens`, `norm`, `loss`).
        statistics (`Statistics`):
            Statistics of the features, each row counted as often as it occurs in the dataset.
        facts (`Mapping[str, str]`):
            Which shard of which store this is: `shard`, its number; `work`, the manifest's `identity_hash`;
            `rows_hash`, for a stream.
    """

    features: np.ndarray
    columns: Mapping[str, np.ndarray]
    statistics: Statistics
    facts: Mapping[str, str] = field(default_factory=dict)


def write_shard(path: Path, shard: Shard) -> None:
    """Writes a shard completely or not at all.

    Raises:
        `OSError`: If the disk is full or cannot be written.
    """
    values = np.ascontiguousarray(shard.features)
    arrays = {FEATURES: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])}
    arrays |= {name: pa.array(np.ascontiguousarray(column)) for name, column in shard.columns.items()}
    table = pa.table(arrays)
    metadata = {"statistics": shard.statistics.to_json(), **shard.facts}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata), max_chunksize=max(1, len(values)))
    write_atomic(path, sink.getvalue())


def read_shard(path: Path, *, verify: bool = True) -> Shard:
    """Reads a shard; its arrays are memory-mapped and read-only.

    Args:
        path (`Path`):
            The file.
        verify (`bool`, *optional*, defaults to `True`):
            Whether to read all of the file and compare the checksum.

    Raises:
        `FileNotFoundError`: If there is no such file.
        `DamagedError`: If the content of the file is not what was written.
    """
    content = read_verified(path, verify=verify)
    try:
        table = pa.ipc.open_stream(content).read_all()
        lists = table.column(FEATURES).combine_chunks()
        # The type of the lists has the width, also if there are no rows.
        values = lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size)
        names = [name for name in table.column_names if name != FEATURES]
        columns = {name: table.column(name).combine_chunks().to_numpy() for name in names}
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        statistics = Statistics.from_json(metadata.pop("statistics"))
    except (pa.ArrowException, KeyError, ValueError, AttributeError, TypeError) as error:
        raise DamagedError(f"it is not a shard of features: {error}") from error
    return Shard(values, columns, statistics, metadata)
