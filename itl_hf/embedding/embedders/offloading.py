"""Weights that accelerate keeps elsewhere (`device_map`, `cpu_offload`, `disk_offload`) and loads when a module runs.

In the module itself such a weight is on the meta device, without values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def offloaded_tensor(model: nn.Module, name: str) -> Tensor:
    """Returns the values of a weight that is on the meta device, in the type in which the module computes with it.

    Args:
        model (`nn.Module`):
            A model with hooks of accelerate.
        name (`str`):
            Name of a parameter or buffer of `model`.

    Raises:
        `ValueError`: If no hook knows the weight.
    """
    *path, last = name.split(".")
    tensor = _attribute(model, path, last)
    for depth in range(len(path), -1, -1):  # the hook of the module, or of one around it that places all of its parts
        module = _module(model, path[:depth])
        key = ".".join([*path[depth:], last])
        for hook in _hooks(module):
            try:
                value = torch.as_tensor(hook.weights_map[key])
            except (AttributeError, KeyError, TypeError):  # a hook without weights, or without this one
                continue
            if not value.is_meta:
                return value.to(tensor.dtype) if value.is_floating_point() else value
    raise ValueError(
        f"{name} is on the meta device, and no hook of accelerate says where its values are: load the model without "
        "offloading, or with device_map= of from_pretrained."
    )


def execution_device(module: nn.Module) -> torch.device:
    """Returns the device on which a module with weights computes."""
    weight = next(module.parameters())
    if not weight.is_meta:
        return weight.device
    devices = [getattr(hook, "execution_device", None) for hook in _hooks(module)]
    device = next((device for device in devices if device is not None), "cpu")
    return torch.device(device)


def _hooks(module: nn.Module) -> Iterator[Any]:
    hook = getattr(module, "_hf_hook", None)
    yield from getattr(hook, "hooks", [hook])  # a SequentialHook has several


def _module(model: nn.Module, path: list[str]) -> nn.Module:
    return model.get_submodule(".".join(path))


def _attribute(model: nn.Module, path: list[str], name: str) -> Tensor:
    tensor: Tensor = getattr(_module(model, path), name)
    return tensor
