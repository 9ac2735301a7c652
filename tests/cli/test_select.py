"""`itl-hf select` as a user types it, with a tiny model saved on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from itl_hf import HiddenStates, Selection, Selector
from itl_hf.cli.main import app
from itl_hf.cli.rows import load_rows
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    model = folder / "model"
    tiny_model("llama").save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    rows = [{"prompt": f"{text} ({number})", "completion": "yes"} for number in range(4) for text in SENTENCES]
    (folder / "pool.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "targets.txt").write_text("\n".join(SENTENCES[:2]), encoding="utf-8")
    (folder / "run.yaml").write_text(
        f"pool: {folder}/pool.jsonl\ntargets: {folder}/targets.txt\nmodel_name_or_path: {model}\nnum_examples: 3\n"
        f"layer: 1\nnoise_std: 1.5\nstore: {folder}/store\noutput_dir: {folder}/selected\n",
        encoding="utf-8",
    )
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_config_file_sets_options_and_flags_override_them(files):
    result = run("select", "--config", files / "run.yaml", "--num-examples", 5, "--target_noise_std", 0.5)
    assert result.exit_code == 0, result.output
    selection = Selection.load(files / "selected")
    assert len(selection) == 5
    assert selection.record["noise_std"] == 1.5
    assert selection.record["target_noise_std"] == 0.5
    assert selection.record["embedder"]["layer"] == 1
    assert "5 of 24 rows by itl" in result.output


def test_it_picks_what_the_python_call_picks(files):
    run("select", "--config", files / "run.yaml", "--output_dir", files / "again")
    embedder = HiddenStates(str(files / "model"), layer=1)
    pool, targets = load_rows(str(files / "pool.jsonl")), load_rows(str(files / "targets.txt"))
    python = Selector(embedder, noise_std=1.5).select(pool, targets, 3)
    assert Selection.load(files / "again").indices.tolist() == python.indices.tolist()


def test_an_unknown_key_in_the_config_is_named_with_the_nearest_option(files, tmp_path):
    (tmp_path / "run.yaml").write_text("num_exmples: 3\n", encoding="utf-8")
    result = run("select", "--config", tmp_path / "run.yaml")
    assert result.exit_code == 2
    assert "num_exmples" in result.output
    assert "did you mean" in result.output


def test_mistakes_end_in_one_sentence_and_status_2(files):
    command = [sys.executable, "-m", "itl_hf", "select", "--config", str(files / "run.yaml"), "--num_examples", "99"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "num_examples=99 is more than the 24 rows of the pool" in result.stderr


def test_rows_come_from_files_and_folders(files, tmp_path):
    rows = load_rows(str(files / "pool.jsonl"))
    rows.to_csv(tmp_path / "pool.csv")
    rows.to_parquet(tmp_path / "pool.parquet")
    rows.save_to_disk(tmp_path / "saved")
    for name in ("pool.csv", "pool.parquet", "saved"):
        assert load_rows(str(tmp_path / name))["prompt"] == rows["prompt"]
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_rows(str(tmp_path / "absent.jsonl"))
    (tmp_path / "pool.xls").write_text("?", encoding="utf-8")
    with pytest.raises(ValueError, match="files of this kind"):
        load_rows(str(tmp_path / "pool.xls"))
