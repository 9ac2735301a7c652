"""`random` and `bm25` read no features: no model is loaded for them unless one is named."""

from __future__ import annotations

import json

import pytest
import transformers

from itl_hf import Selection


@pytest.fixture
def no_model(monkeypatch):
    def refuse(*names, **_):
        pytest.fail(f"a model was loaded: {names}")

    for kind in (transformers.AutoModel, transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", refuse)


def words(files, acquisition, output, *more):
    rows = ("--pool", files / "pool.jsonl", "--targets", files / "targets.txt", "--num_examples", 5)
    return ("select", *rows, "--acquisition", acquisition, "--output_dir", output, *more)


@pytest.mark.parametrize("acquisition", ["random", "bm25"])
@pytest.mark.usefixtures("no_model")
def test_no_model_is_loaded(acquisition, files, run, tmp_path):
    if acquisition == "bm25":
        pytest.importorskip("bm25s")
    ended = run(*words(files, acquisition, tmp_path / "out"))
    assert ended.exit_code == 0, ended.exception
    assert "reads no features, so no model is loaded" in ended.output
    selection = Selection.load(tmp_path / "out")
    assert selection.record.embedder["embedder"] == "word_counts"
    assert len(selection) == 5
    assert str(selection.diagnose())
    selection.report(tmp_path / "report.html")
    assert run(*words(files, acquisition, tmp_path / "dry", "--dry_run")).exit_code == 0


def test_the_picks_are_those_that_a_model_gives(files, run, tmp_path):
    outcomes = []
    for more in ((), ("--model", files / "model")):
        ended = run(*words(files, "random", tmp_path / str(len(more)), "--seed", 3, "--json", *more))
        outcomes.append(json.loads(ended.stdout)["indices"])
    assert outcomes[0] == outcomes[1]
    assert Selection.load(tmp_path / "2").record.embedder["embedder"] == "hidden_states"


@pytest.mark.parametrize("more", [("--token_budget", 90), ("--layer", 1), ("--embedder", "gradients")])
@pytest.mark.usefixtures("no_model")
def test_what_needs_a_model_loads_it(more, files, run, tmp_path):
    with pytest.raises(BaseException, match="a model was loaded"):
        raise run(*words(files, "random", tmp_path / "out", *more)).exception
