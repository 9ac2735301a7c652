"""The manifest of a feature store."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.manifest import MANIFEST_NAME
from itl_hf.embedding.store.manifest import _hash as manifest_hash
from tests.fuzz.reader import Reader, documented, json_object


@functools.cache
def _store() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="itl-hf-fuzz-store-")) / "store"
    store = FeatureStore(directory, {"embedder": "e"}, rows=4, dimension=2, shard_rows=2, index=np.array([0, 1, 1, 2]))
    for shard in range(2):
        store.write(shard, np.ones((2 - shard, 2), dtype=np.float32), {"tokens": np.arange(2 - shard)})
    return directory


def _read_manifest(content: bytes, folder: Path) -> None:
    directory = shutil.copytree(_store(), folder / "store")
    values = json_object(content)
    if values is not None:
        values.pop("sha256", None)
        content = json.dumps({**values, "sha256": manifest_hash(values)}).encode()
    (directory / MANIFEST_NAME).write_bytes(content)
    with documented(directory):
        store = FeatureStore.open(directory)
        store.missing()
        len(store.features()[:3]), store.statistics(), store.column("row"), store.checksum()


def _manifests() -> list[bytes]:
    manifest = json.loads((_store() / MANIFEST_NAME).read_bytes())
    stream = {**manifest, "streamed": True, "rows": None, "stored_rows": None}
    return [json.dumps(values).encode() for values in (manifest, stream, {**manifest, "stored_rows": 4})]


READERS = {
    "manifest": Reader(_read_manifest, _manifests, ("rows", "stored_rows", "dimension", "shard_rows", "streamed"))
}
