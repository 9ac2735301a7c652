"""One shard: an Arrow stream with the feature rows, what else is known of each, and their statistics.

These are files that `datasets` opens itself; numpy maps them without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from itl_hf.embedding.store.atomic_files import DamagedError, read_whole, write_whole
from itl_hf.embedding.store.statistics import Statistics

FEATURES = "features"
ROW = "row"


@dataclass(frozen=True)
class Shard:
    """What a shard file holds.

    Args:
        features (`np.ndarray`):
            Shape (B, d), float16 or float32.
        columns (`Mapping[str, np.ndarray]`):
            By name one number for each row, shape (B,): `row`, the number of the row in its dataset, and what the
            embedder gave (`tokens`, `norm`, `loss`).
        statistics (`Statistics`):
            Of the features, each row counted as often as the dataset holds it.
        facts (`Mapping[str, str]`):
            Which shard of which work this is.
    """

    features: np.ndarray
    columns: Mapping[str, np.ndarray]
    statistics: Statistics
    facts: Mapping[str, str] = field(default_factory=dict)


def write_shard(path: Path, shard: Shard) -> None:
    """Save a shard, whole or not at all.

    Raises:
        `OSError`: The disk is full, or cannot be written.
    """
    values = np.ascontiguousarray(shard.features)
    arrays = {FEATURES: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])}
    arrays |= {name: pa.array(np.ascontiguousarray(column)) for name, column in shard.columns.items()}
    table = pa.table(arrays)
    metadata = {"statistics": shard.statistics.to_json(), **shard.facts}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata), max_chunksize=max(1, len(values)))
    write_whole(path, sink.getvalue())


def read_shard(path: Path, *, verify: bool = True) -> Shard:
    """A shard, memory-mapped and read-only.

    Raises:
        `FileNotFoundError`: There is no such file.
        `DamagedError`: The file is not what was written.
    """
    content = read_whole(path, verify=verify)
    try:
        table = pa.ipc.open_stream(content).read_all()
        lists = table.column(FEATURES).combine_chunks()
        # The lists know their width, which zero rows do not show.
        values = lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size)
        names = [name for name in table.column_names if name != FEATURES]
        columns = {name: table.column(name).combine_chunks().to_numpy() for name in names}
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        statistics = Statistics.from_json(metadata.pop("statistics"))
    except (pa.ArrowException, KeyError, ValueError, AttributeError, TypeError) as error:
        raise DamagedError(f"it is not a shard of features: {error}") from error
    return Shard(values, columns, statistics, metadata)
