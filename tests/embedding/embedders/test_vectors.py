"""`VectorEmbedder`: vectors of a column or an array give the picks that `select_rows` gives for the same arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest

from itl_hf import Selection, Selector, VectorEmbedder, select_rows
from itl_hf.cli.main import app

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 6)).astype(np.float32)
TARGET_VECTORS = RNG.normal(size=(3, 6)).astype(np.float32)
POOL = [{"text": f"row {number}", "vector": VECTORS[number].tolist()} for number in range(40)]
TARGETS = [{"text": f"target {number}", "vector": TARGET_VECTORS[number].tolist()} for number in range(3)]


def chat(rows):
    return [{"messages": [{"role": "user", "content": row["text"]}], "vector": row["vector"]} for row in rows]


@pytest.mark.parametrize(
    ("pool", "targets"),
    [(POOL, TARGETS), (chat(POOL), TARGETS), (chat(POOL), chat(TARGETS)), (POOL[:20] + POOL, TARGETS)],
    ids=["texts", "text targets for chats", "chats", "equal rows"],
)
def test_picks_are_those_of_the_arrays(pool, targets, tmp_path):
    embedders = VectorEmbedder(pool, "vector"), VectorEmbedder(targets, "vector", name="targets")
    selection = Selector(embedders[0], targets_embedder=embedders[1]).select(pool, targets, 8)
    arrays = [np.array([row["vector"] for row in rows], dtype=np.float32) for rows in (pool, targets)]
    rows = select_rows(*arrays, 8)
    assert selection.indices.tolist() == rows.indices.tolist()
    np.testing.assert_allclose(selection.gains, rows.gains)
    selection.save(tmp_path / "out")
    assert Selection.load(tmp_path / "out").diagnose().targets


def test_an_array_is_the_same_as_a_column():
    column, array = VectorEmbedder(POOL, "vector"), VectorEmbedder(POOL, VECTORS)
    assert column.fingerprint() == array.fingerprint()
    np.testing.assert_array_equal(array.embed(POOL[::-1]).numpy(), VECTORS[::-1])
    assert VectorEmbedder(POOL, VECTORS + 1e-3).fingerprint() != array.fingerprint()


@pytest.mark.parametrize(
    ("rows", "vectors", "words"),
    [
        (POOL, "vectors", "no column 'vectors'"),
        (POOL, VECTORS[:3], "expected 40 rows"),
        (POOL, VECTORS[:, :0], "at least one number"),
        (POOL, VECTORS[0], "expected 40 rows"),
        (POOL, "text", "list of as many numbers"),
        ([*POOL, {"text": "short", "vector": [1.0]}], "vector", "list of as many numbers"),
        ([*POOL, {"text": "none", "vector": None}], "vector", "list of as many numbers"),
        ([*POOL, {**POOL[0], "vector": [0.0] * 6}], "vector", "rows 0 and 40 have the same text"),
    ],
)
def test_mistakes_are_named(rows, vectors, words):
    with pytest.raises(ValueError, match=words):
        VectorEmbedder(rows, vectors)


def test_rows_without_a_vector_are_named():
    with pytest.raises(ValueError, match="row 7 is none of the rows"):
        VectorEmbedder(POOL[:7], "vector").check(POOL)


def test_the_command_line_loads_no_model(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr("itl_hf.cli.arguments.EmbedderArguments.build_embedder", None)
    for name, rows in (("pool", POOL), ("targets", TARGETS)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ["--pool", f"{tmp_path}/pool.jsonl", "--targets", f"{tmp_path}/targets.jsonl", "--num_examples", "5"]
    options += ["--output_dir", f"{tmp_path}/out", "--embedding_column", "vector", "--json"]
    result = CliRunner().invoke(app, ["select", *options], catch_exceptions=False)
    assert json.loads(result.stdout)["indices"] == select_rows(VECTORS, TARGET_VECTORS, 5).indices.tolist()
    refused = CliRunner().invoke(app, ["select", *options[:-1], "--overwrite", "--model", "some/model"])
    assert "leave out one of the two" in str(refused.exception)
