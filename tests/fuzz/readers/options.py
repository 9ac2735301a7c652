"""Options in YAML."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.main import get_command

from itl_hf.cli.config import load_config
from itl_hf.cli.main import app
from itl_hf.cli.yaml_file import read_yaml
from tests.fuzz.reader import Reader, documented


def _read_yaml(content: bytes, folder: Path) -> None:
    path = folder / "run.yaml"
    path.write_bytes(content)
    with documented(path):
        read_yaml(path)
    context = typer.Context(get_command(app).commands["select"])  # type: ignore[attr-defined]
    with documented(path):
        load_config(context, path)


_CONTENTS = (
    b"pool: a.jsonl\ntargets: [a.txt]\nnum_examples: 10\ncolumns: {prompt: q}\noverwrite: true\nnoise_std: 1e-3\n",
    b"--- # comment\n? pool\n: &a |\n  text\nmodel: *a\n<<: {layer: 0.5}\n",
    b"pool: !!binary aGk=\nmodel: !!set {a, b}\nx: 2001-12-14t21:59:43.10-05:00\ny: !!omap [a: 1]\n",
    b"pool: !!timestamp 2001-01-01\nmodel: !!bool yes\nlayer: !!int 0o7\nz: !!float .inf\n",
)
_WORDS = ("!!timestamp ", "!!bool ", "!!int ", "!!float ", "!!binary ", "!!null ", "!!set ", "!!omap ", "!!pairs ")

READERS = {"yaml": Reader(_read_yaml, lambda: list(_CONTENTS), _WORDS)}
