"""`itl-hf embed`: what it stores is what `select` finds."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

from itl_hf import HiddenStates, Selection, Selector
from itl_hf.cli.arguments import EmbedderArguments
from itl_hf.cli.load_rows import load_rows
from itl_hf.embedding import FeatureStore
from itl_hf.embedding.row_keys import rows_fingerprint
from itl_hf.embedding.store.paths import feature_directory
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer


@pytest.fixture
def embedded(monkeypatch):
    """Counts the rows that go through the model."""
    counts = []
    original = HiddenStates.embed_prepared

    def counting(self, prepared, **options):
        counts.append(len(prepared))
        return original(self, prepared, **options)

    monkeypatch.setattr(HiddenStates, "embed_prepared", counting)
    return counts


def test_select_finds_what_embed_stored(files, run, tmp_path, embedded):
    options = ("--model", files / "model", "--layer", 1, "--store", tmp_path / "store")
    result = run("embed", files / "pool.jsonl", *options)
    assert result.exit_code == 0, result.output
    assert sum(embedded) == 24
    assert "24 rows (24 distinct), 32 numbers each; embedded in" in result.output

    embedded.clear()
    again = run("embed", "--dataset_name", files / "pool.jsonl", *options)
    assert "found in the store, nothing was embedded" in again.output
    assert embedded == []

    target = ("--targets", files / "targets.txt", "--num_examples", 3, "--output_dir", tmp_path / "out")
    result = run("select", "--pool", files / "pool.jsonl", *target, *options)
    assert result.exit_code == 0, result.output
    assert sum(embedded) == 2  # the targets alone

    embedded.clear()
    run("embed", files / "targets.txt", *options)
    assert embedded == []  # select stored them where embed looks

    other = ("--model", files / "model", "--layer", 2, "--store", tmp_path / "store")
    run("select", "--pool", files / "pool.jsonl", *target, *other, "--overwrite")
    assert sum(embedded) == 26  # other work is never confused with it


def test_the_command_that_it_suggests_works_and_finds_the_features(files, run, tmp_path, embedded):
    result = run(
        *("embed", files / "pool.jsonl", "--model", files / "model", "--layer", "1,2", "--pooling", "mean,last"),
        *("--span", "whole", "--store", tmp_path / "a store"),
    )
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if "itl-hf select" in line)
    words = shlex.split(line[line.index("itl-hf select") :])
    values = {"--targets": files / "targets.txt", "--num_examples": 2, "--output_dir": tmp_path / "out"}
    command = [values.get(before, word) if word == "..." else word for before, word in itertools.pairwise(words)]
    embedded.clear()
    picked = run(*command)
    assert picked.exit_code == 0, picked.output
    assert sum(embedded) == 2
    assert Selection.load(tmp_path / "out").record.embedder["pooling"] == "mean, last"


def test_features_are_those_of_python(files, run, tmp_path):
    run("embed", files / "pool.jsonl", "--model", files / "model", "--pooling", "last", "--store", tmp_path)
    embedder = HiddenStates(str(files / "model"), pooling="last")
    rows = load_rows(str(files / "pool.jsonl"))
    directory = feature_directory(tmp_path, embedder.fingerprint(), rows_fingerprint(rows, embedder))
    features = np.asarray(FeatureStore.open(directory).features())
    np.testing.assert_allclose(features, embedder.embed(list(rows)).numpy(), atol=1e-5)


def test_selector_keeps_features_in_the_same_place(files, tmp_path):
    embedder = HiddenStates(str(files / "model"))
    rows = load_rows(str(files / "pool.jsonl"))
    Selector(embedder, store=tmp_path).select(rows, SENTENCES[:1], 1)
    assert feature_directory(tmp_path, embedder.fingerprint(), rows_fingerprint(rows, embedder)).is_dir()


def test_gradients(files, run, tmp_path):
    options = ("--embedder", "gradients", "--model", files / "model", "--dimension", 64, "--rank", 8)
    result = run("embed", files / "pool.jsonl", *options, "--modules", "q_proj", "--store", tmp_path / "store")
    assert result.exit_code == 0, result.output
    assert "64 numbers each" in result.output
    result = run(
        *("select", "--pool", files / "pool.jsonl", "--targets", files / "targets.txt", "--num_examples", 2, *options),
        *("--labels", "predicted", "--output_dir", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    assert Selection.load(tmp_path / "out").record.embedder["embedder"] == "gradients"


def test_sentence_encoder(files, run, tmp_path):
    pytest.importorskip("sentence_transformers")
    tiny_model("bert", head=False).save_pretrained(tmp_path / "bert")
    tiny_tokenizer(bos_and_eos=True, chat_template=False).save_pretrained(tmp_path / "bert")
    options = ("--embedder", "sentence_encoder", "--model", tmp_path / "bert", "--store", tmp_path / "store")
    result = run("embed", files / "pool.jsonl", *options)
    assert result.exit_code == 0, result.output
    target = ("--targets", files / "targets.txt", "--num_examples", 2, "--output_dir", tmp_path / "out")
    result = run("select", "--pool", files / "pool.jsonl", *target, *options)
    assert result.exit_code == 0, result.output
    assert Selection.load(tmp_path / "out").record.embedder["embedder"] == "sentence_encoder"


def test_duplicates_are_counted_once(files, run, tmp_path, embedded):
    rows = [{"text": text} for text in SENTENCES[:3] * 4]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    result = run("embed", tmp_path / "rows.json", "--model", files / "model", "--store", tmp_path / "store")
    assert "12 rows (3 distinct)" in result.output
    assert sum(embedded) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give the rows once"),
        (("pool.jsonl", "--dataset_name", "pool.jsonl"), "give the rows once"),
    ],
)
def test_rows_are_given_once(run, tmp_path, arguments, said):
    result = run("embed", *arguments, "--store", tmp_path)
    assert result.exit_code == 2
    assert said in result.output


def refused(kind, **settings):
    with pytest.raises(ValueError) as caught:
        EmbedderArguments(kind, **settings).build_embedder(None)
    return str(caught.value)


def test_options_of_another_embedder_are_refused():
    hidden, gradients, encoder = "hidden_states", "gradients", "sentence_encoder"
    assert refused(gradients, layer="1") == "--layer is not an option of --embedder gradients; leave it out"
    assert "--labels is not an option of --embedder hidden_states" in refused(hidden, labels="predicted")
    assert "needs --model_name_or_path" in refused(encoder)
    assert "--layer 'deep' is no layer" in refused(hidden, layer="1,deep")
    assert "--pooling is empty" in refused(hidden, pooling=",")


def test_two_processes_share_the_work(files, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    options = ["--model", str(files / "model"), "--store", str(tmp_path / "store")]
    command = [*torchrun, "itl_hf", "embed", str(files / "pool.jsonl"), *options]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("24 rows (24 distinct)") == 1
    (directory,) = (tmp_path / "store").iterdir()
    features = np.asarray(FeatureStore.open(directory).features())
    alone = HiddenStates(str(files / "model")).embed(list(load_rows(str(files / "pool.jsonl")))).numpy()
    np.testing.assert_allclose(features, alone, atol=1e-5)


def test_help_needs_no_heavy_imports():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom itl_hf.cli.main import app\n"
        "for words in (['--help'], ['embed', '--help'], ['select', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'transformers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
