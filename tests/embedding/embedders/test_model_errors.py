"""A model or tokenizer that cannot be loaded is named, with what to do."""

from __future__ import annotations

import json
import shutil

import pytest

from itl_hf import HiddenStates
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def without(name):
    return lambda folder: (folder / name).unlink()


def changed_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("tokenizer.json"), r"no tokenizer can be loaded from .*save_pretrained"),
        (without("model.safetensors"), "no model at "),
        (changed_config(model_type="unheard-of"), "the model .* cannot be loaded: .*unheard-of"),
        (changed_config(hidden_size=64), "the weights of .* have other sizes than its config.json says: copy"),
        (cut_weights, "the weights or settings of .* are damaged"),
    ],
)
def test_damaged_folders(damage, words, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "copied")
    damage(folder)
    with pytest.raises(ValueError, match=words) as caught:
        HiddenStates(str(folder))
    assert str(folder) in str(caught.value)


def test_a_folder_has_no_revisions(model):
    with pytest.raises(ValueError, match="is a folder, which has no revisions: leave out 'v2'"):
        HiddenStates(str(model), revision="v2")
    assert HiddenStates(str(model), revision="main").dimension == HiddenStates(str(model)).dimension
