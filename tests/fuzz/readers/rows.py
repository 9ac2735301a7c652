"""Files of rows."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
from pathlib import Path

import datasets

from itl_hf.cli.load_rows import load_rows
from itl_hf.text.text_rows import TextRows
from tests.fuzz.reader import Reader, documented

#: The first byte of the content says of which kind the file is.
KINDS = (
    "jsonl",
    "json",
    "csv",
    "tsv",
    "txt",
    "jsonl.gz",
    "jsonl.bz2",
    "jsonl.xz",
    "csv.gz",
    "parquet",
    "csv.bz2",
    "json.xz",
)


def _read_rows(content: bytes, folder: Path) -> None:
    kind = KINDS[content[0] % len(KINDS)] if content else "jsonl"
    path = folder / f"rows.{kind}"
    path.write_bytes(content[1:])
    cache, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, folder / "cache"
    try:
        rows = None
        with documented(path):
            rows = load_rows(str(path))
        if rows is None:
            return
        with contextlib.suppress(ValueError):  # no column with text
            list(TextRows(rows))
    finally:
        datasets.config.HF_DATASETS_CACHE = cache


def _rows() -> list[bytes]:
    lines = b'{"prompt": "a", "completion": "b"}\n{"prompt": null, "n": 1.5, "l": [1, {"k": null}]}\n'
    messages = b'[{"messages": [{"role": "user", "content": "hi"}], "tools": [{"x": 1}]}, {"messages": []}]'
    csv = b'prompt,n\n"a ""b""\nc",1\nd,\n'
    parquet = io.BytesIO()
    datasets.Dataset.from_dict({"text": ["a", None]}).to_parquet(parquet)
    contents = (
        *(lines, messages, csv, csv.replace(b",", b"\t"), b"one\ntwo\n"),
        *(gzip.compress(lines, mtime=0), bz2.compress(lines), lzma.compress(lines), gzip.compress(csv, mtime=0)),
        *(parquet.getvalue(), bz2.compress(csv), lzma.compress(messages)),
    )
    return [bytes([kind]) + content for kind, content in enumerate(contents)]


READERS = {"rows": Reader(_read_rows, _rows, ("messages", "prompt", "role", "content", "tools", "\\ud800", "1e999"))}
