"""Finds the linear layers of a model whose gradients are taken, and the share of its parameters that they hold."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from itl_hf.embedding.embedders.gradients.head import output_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layer:
    """A linear layer whose gradient is taken.

    Args:
        name (`str`):
            Name of the module in the model.
        key (`str`):
            Seeds its random matrices: the name without `base_layer`, so that an adapter that has not been trained
            changes nothing.
        group (`str`):
            Layers of one group and width share the projection of their inputs.
        module (`nn.Module`):
            `nn.Linear` or `Conv1D`.
        inputs (`int`):
            Width of its input.
        outputs (`int`):
            Width of its output.
        adapter (`bool`):
            Whether it belongs to a LoRA adapter.
    """

    name: str
    key: str
    group: str
    module: nn.Module
    inputs: int
    outputs: int
    adapter: bool = False


def find_layers(model: PreTrainedModel, modules: str | Sequence[str]) -> tuple[Layer, ...]:
    """Returns the layers that `modules` names, in the model's order.

    The language-model head is left out, since its gradient has another geometry, and so are experts, whose inputs do
    not say which example they come from. With a trained LoRA adapter the adapter's layers are used in place of the
    layers that they adapt. An adapter whose B is zero counts as untrained: there the gradient of A is exactly zero.

    Args:
        model (`PreTrainedModel`):
            A model, with its adapter layers in place if it has any.
        modules (`"all"` or `Sequence[str]`):
            `"all"`: every linear layer, or every one of a trained adapter. Names are compared from their end, part by
            part: `"v_proj"`, `"layers.3.mlp.down_proj"`, `"q_proj.base_layer"`.

    Raises:
        `ValueError`: If the model has no linear layer, or none of a name in `modules`.
    """
    if isinstance(modules, str) and modules != "all":
        raise ValueError(f"modules must be 'all' or a list of names, got {modules!r}.")
    all_layers = [_layer(name, module) for name, module in _linear_modules(model)]
    adapters = _trained_adapters(model)
    default_layers = [layer for layer in all_layers if (layer.name in adapters if adapters else not layer.adapter)]
    if not default_layers:
        raise ValueError(f"{type(model).__name__} has no linear layers (nn.Linear or Conv1D) to take gradients of.")
    return tuple(default_layers) if isinstance(modules, str) else _layers_by_name(all_layers, default_layers, modules)


def plain_name(name: str) -> str:
    """Returns the name of the layer that an adapter wraps: without `base_layer`, `lora_A.default` and the like."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part == "base_layer" or part.startswith("lora_"):
            return ".".join(parts[:i])
    return name


def coverage(model: nn.Module, layers: Sequence[Layer]) -> float:
    """Returns the share of the model's parameters that are weights of `layers`, without biases."""
    # num_parameters counts correctly that a byte of a 4-bit weight holds two parameters.
    total = getattr(model, "num_parameters", lambda: sum(p.numel() for p in model.parameters()))()
    return sum(layer.inputs * layer.outputs for layer in layers) / max(1, int(total))


def warn_of_experts(model: nn.Module) -> None:
    """Logs the share of parameters in experts, whose gradients are not taken."""
    names = [name for name, parameter in model.named_parameters() if _is_of_expert(name, parameter)]
    if not names:
        return
    parameters = dict(model.named_parameters())
    count, total = sum(parameters[name].numel() for name in names), sum(p.numel() for p in parameters.values())
    logger.warning(
        "%s: %.0f%% of the parameters are those of experts (such as %s), whose gradients are not taken: they are not "
        "linear layers that see whole rows. The features are those of the other layers.",
        type(model).__name__,
        100 * count / total,
        names[0],
    )


def _linear_modules(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    head = output_embeddings(model)
    head_modules = set() if head is None else {id(module) for module in head.modules()}
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.Linear | Conv1D)
            and id(module) not in head_modules
            and "experts" not in name.split(".")
        ):
            yield name, module


def _layer(name: str, module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        inputs, outputs = module.in_features, module.out_features
    else:
        inputs, outputs = module.weight.shape  # type: ignore[misc]
    parent = plain_name(name).rpartition(".")[0]
    group = f"{parent}{' B' if '.lora_B.' in name else ''}"
    return Layer(
        name, name.removesuffix(".base_layer"), group, module, int(inputs), int(outputs), adapter=".lora_" in name
    )


def _trained_adapters(model: nn.Module) -> set[str]:
    """Returns the names of the active LoRA layers, if any of them has been trained."""
    names, any_trained = set(), False
    for prefix, module in model.named_modules():
        wrapper = cast("Any", module)
        if not isinstance(getattr(module, "lora_B", None), nn.ModuleDict) or wrapper.disable_adapters or wrapper.merged:
            continue
        for adapter in wrapper.active_adapters:
            if adapter in wrapper.lora_B:
                names |= {f"{prefix}.lora_A.{adapter}", f"{prefix}.lora_B.{adapter}"}
                any_trained |= bool(wrapper.lora_B[adapter].weight.detach().any())
    return names if any_trained else set()


def _layers_by_name(
    all_layers: Sequence[Layer], default_layers: Sequence[Layer], modules: Sequence[str]
) -> tuple[Layer, ...]:
    if not modules:
        raise ValueError("modules is empty. Name at least one layer, or use 'all'.")
    names = set()
    for ending in modules:
        matches = {layer.name for layer in default_layers if f".{plain_name(layer.name)}".endswith(f".{ending}")}
        matches |= {layer.name for layer in all_layers if f".{layer.name}".endswith(f".{ending}")}
        if not matches:
            available_names = sorted({plain_name(layer.name).rpartition(".")[2] for layer in all_layers})
            raise ValueError(
                f"modules: no linear layer is called {ending!r}. There are {available_names} (the language-model head "
                "and experts cannot be taken)."
            )
        names |= matches
    return tuple(layer for layer in all_layers if layer.name in names)


def _is_of_expert(name: str, parameter: nn.Parameter) -> bool:
    return "experts" in name.split(".") and parameter.ndim >= 2 and math.prod(parameter.shape) > 0
