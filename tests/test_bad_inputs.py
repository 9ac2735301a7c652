"""Every bad input is refused before a model is loaded, by an error that names the culprit and the remedy.

`tests/bad_inputs.py` and `tests/bad_arguments.py` have the inputs. A model that is loaded all the same, or an embedder
that is called, ends the test with an error that no code here catches.
"""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import transformers
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from itl_hf import Embedder, Selector
from itl_hf.cli.errors import MISTAKE, MISTAKES, exit_status, is_foreseen, sentence
from itl_hf.cli.main import app
from itl_hf.embedding.embedders import sentence_encoder
from tests.bad_arguments import CALLS
from tests.bad_inputs import COMMANDS, POOL, ROWS, SELECT_OPTIONS, write_files


class ModelWasLoaded(BaseException):
    """Not an `Exception`, so that nothing can take it for an error of the input."""


class NeverCalled(Embedder):
    """An embedder that may be described, but not called."""

    dimension = 3

    def fingerprint(self):
        return {"embedder": "never called"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        raise ModelWasLoaded


class Counting(NeverCalled):
    """The same, and it works: for a selection to damage."""

    def embed(self, rows, *, first_row=0, on_rows=None):
        import torch

        return torch.tensor([[float(len(str(row))), float(first_row + n), 1.0] for n, row in enumerate(rows)])


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    def load(*_, **__):
        raise ModelWasLoaded

    for kind in (transformers.AutoModel, transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", load)
    monkeypatch.setattr(sentence_encoder, "load_encoder", load)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_files(folder)
    selected = Selector(Counting()).select(POOL, ["a target"], 3).save(folder / "selected")
    damages = {
        "without_version": lambda path: edit(path / "selection.json", '"format_version": 1,', ""),
        "future": lambda path: make_newer(path / "selection.json"),
        "no_json": lambda path: (path / "selection.json").write_text("{"),
        "list_json": lambda path: (path / "selection.json").write_text("[]"),
        "cut_arrays": lambda path: cut(path / "arrays.safetensors"),
        "cut_rows": lambda path: cut(next(path.glob("data/*.parquet"))),
    }
    for name, damage in damages.items():
        shutil.copytree(selected, folder / name)
        damage(folder / name)
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_list(POOL)}).save_to_disk(folder / "saved")
    return folder


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def make_newer(path):
    facts = {**json.loads(path.read_text(encoding="utf-8")), "format_version": 99}
    facts.pop("version")
    path.write_text(json.dumps(facts), encoding="utf-8")


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def message_of(words, files):
    """Runs a command; returns the exit status and what a user reads."""
    words = [word.replace("{files}", str(files)) for word in words]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(app, words)
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        return result.exit_code, result.output
    assert is_foreseen(error), repr(error)
    return exit_status(error), sentence(error)


def check(words, culprit, remedy, files):
    status, message = message_of(words, files)
    assert status == MISTAKE, message
    assert culprit.lower() in message.lower()
    assert remedy.lower() in message.lower()
    assert "Traceback" not in message
    assert not any(path.suffix == ".arrow" for path in files.glob("s/**/*"))


def select_words(**options):
    values = {
        "pool": "{files}/pool.jsonl",
        "targets": "{files}/targets.jsonl",
        "num_examples": "3",
        "model": "some/model",
    }
    values |= {"output_dir": "{files}/out", **options}
    return ["select", *(word for name, value in values.items() for word in (f"--{name}", value))]


@pytest.mark.parametrize(("words", "culprit", "remedy"), SELECT_OPTIONS, ids=lambda value: " ".join(value)[:60])
def test_options_of_select(files, words, culprit, remedy):
    check([*select_words(), *words], culprit, remedy, files)


@pytest.mark.parametrize("place", ["pool", "targets", "exclude", "embed"])
@pytest.mark.parametrize(("rows", "culprit", "remedy"), ROWS, ids=lambda value: value[:40])
def test_files_of_rows(files, place, rows, culprit, remedy):
    words = ["embed", rows, "--store", "{files}/s"] if place == "embed" else select_words(**{place: rows})
    check(words, culprit, remedy, files)


@pytest.mark.parametrize(("words", "culprit", "remedy"), COMMANDS, ids=lambda value: " ".join(value)[:60])
def test_other_commands(files, words, culprit, remedy):
    if words[0] == "push" and len(words) == 2:
        words = [*words, "me/x"]
    check(words, culprit, remedy, files)


@pytest.mark.parametrize(("call", "culprit", "remedy"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_arguments_of_python(call, culprit, remedy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MISTAKES) as refusal:
            call(NeverCalled())
    message = str(refusal.value)
    assert culprit.lower() in message.lower()
    assert remedy.lower() in message.lower()


def test_there_are_as_many_as_promised():
    assert len(SELECT_OPTIONS) + 4 * len(ROWS) + len(COMMANDS) + len(CALLS) >= 250


def test_arrays_of_another_selection_are_refused(files, tmp_path):
    folder = tmp_path / "swapped"
    shutil.copytree(files / "selected", folder)
    arrays = load_file(folder / "arrays.safetensors")
    arrays["indices"] = arrays["indices"][::-1].copy()
    save_file(arrays, folder / "arrays.safetensors")
    check(["report", str(folder)], "arrays.safetensors", "select again", files)
