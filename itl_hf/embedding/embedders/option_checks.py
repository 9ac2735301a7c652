"""Checks options of embedders that need no model, before one is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from itl_hf.embedding.embedders.model_loading import torch_dtype


def check_loading(*, dtype: str, device: str | torch.device | None, max_length: int | None) -> None:
    """Checks the options with which a model is loaded.

    Raises:
        `ValueError`: If the type, the device or the length is none that there is here.
    """
    torch_dtype(dtype)
    check_device(device)
    if max_length is not None:
        check_whole_number("max_length", max_length, 1)


def check_device(device: str | torch.device | None) -> None:
    """Raises `ValueError` if there is no such device on this machine."""
    if device is None:
        return
    try:
        kind = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device={str(device)!r} is none: give cpu, cuda:0 or mps, or leave it out") from None
    if kind.type == "cuda" and not 0 <= (kind.index or 0) < torch.cuda.device_count():
        count = torch.cuda.device_count()
        usable = f"{count} GPU{'' if count == 1 else 's'}" if count else "no GPU"
        raise ValueError(f"device={str(device)!r}: torch can use {usable} here; give cpu, or leave it out")
    if kind.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device={str(device)!r}: torch cannot use it here; give cpu, or leave it out")


def check_layers(layers: Any) -> None:
    """Raises an error unless a layer, or each of several, is an index or a share of the depth.

    Raises:
        `ValueError`: If a share is not from 0 to 1, or none is given.
        `TypeError`: If a layer is no number.
    """
    as_list = layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]
    if not as_list:
        raise ValueError("layer is an empty list: name one layer or several, such as 0.75 or [0.5, 0.75]")
    for layer in as_list:
        if isinstance(layer, bool) or not isinstance(layer, int | float):
            raise TypeError(f"layer must be an index (22, -1) or a share of the depth (0.75), got {layer!r}")
        if isinstance(layer, float) and not (math.isfinite(layer) and 0 <= layer <= 1):
            raise ValueError(f"layer={layer!r}: a share of the depth is from 0 to 1; an index has no decimal point")


def check_whole_number(name: str, value: Any, least: int) -> None:
    """Raises `ValueError` unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
