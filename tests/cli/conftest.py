"""A tiny model, a pool and targets on disk, and the command line in this process."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from itl_hf.cli.main import app
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    model = folder / "model"
    tiny_model("llama").save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    rows = [
        {"prompt": f"{text} ({number})", "completion": "yes", "cost": 10 + number, "source": f"source {number % 2}"}
        for number in range(4)
        for text in SENTENCES
    ]
    (folder / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "targets.txt").write_text("\n".join(SENTENCES[:2]), encoding="utf-8")
    (folder / "run.yaml").write_text(
        f"pool: {folder}/pool.jsonl\ntargets: {folder}/targets.txt\nmodel_name_or_path: {model}\nnum_examples: 3\n"
        f"layer: 1\nnoise_std: 1.5\nstore: {folder}/store\noutput_dir: {folder}/selected\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="session")
def run():
    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call
