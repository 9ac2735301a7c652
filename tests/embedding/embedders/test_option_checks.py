"""Damaged models are named, and devices and layers are checked before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from itl_hf import Gradients, HiddenStates
from itl_hf.embedding.embedders.option_checks import check_device, check_layers
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut-model")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", [HiddenStates, Gradients])
@pytest.mark.parametrize("length", [-99, 100, 0])
def test_cut_weights_are_named_with_a_remedy(folder, kind, length, tmp_path):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:length])
    try:
        with pytest.raises(ValueError, match=f"{folder.name}.*damaged.*copy or download"):
            kind(folder)
    finally:
        weights.write_bytes(content)


def test_a_damaged_config_is_named(folder):
    config = folder / "config.json"
    content = config.read_text()
    config.write_text(content[:-9])
    try:
        with pytest.raises(ValueError, match=folder.name):
            HiddenStates(folder)
    finally:
        config.write_text(content)


def test_devices_that_are_there():
    for device in (None, "cpu", torch.device("cpu"), "meta"):
        check_device(device)


def test_layers_that_may_be():
    for layers in (3, -1, 0.5, 1.0, [1, 2], (0.25, -1)):
        check_layers(layers)
