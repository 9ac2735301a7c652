"""Which linear layers of a model have their gradients taken, and which share of its parameters that is."""

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
    """A linear layer to hook.

    Args:
        name (`str`):
            Of the module in the model.
        key (`str`):
            What its random matrices are drawn from: the name without `base_layer`, so that an adapter that has not been
            trained changes nothing.
        group (`str`):
            Layers of one group and width share the projection of their inputs.
        module (`nn.Module`):
            `nn.Linear` or `Conv1D`.
        inputs (`int`):
            Its width on the side of the inputs.
        outputs (`int`):
            Its width on the side of the outputs.
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
    """The layers that `modules` means, in the model's order.

    The language-model head is left out (its gradient is another geometry), and so are experts, whose inputs are rows
    of no known example. With a trained LoRA adapter its own layers stand for those they adapt. An adapter whose B is
    zero counts as untrained: the gradient of A is exactly zero there.

    Args:
        model (`PreTrainedModel`):
            With its adapters live, if it has any.
        modules (`"all"` or `Sequence[str]`):
            `"all"`: every linear layer, or every one of a trained adapter. Names are compared from their end, part by
            part: `"v_proj"`, `"layers.3.mlp.down_proj"`, `"q_proj.base_layer"`.

    Raises:
        `ValueError`: Nothing to hook, or a name that no layer has.
    """
    if isinstance(modules, str) and modules != "all":
        raise ValueError(f"modules must be 'all' or a list of names, got {modules!r}.")
    every = [_layer(name, module) for name, module in _linears(model)]
    adapters = _trained_adapters(model)
    usual = [layer for layer in every if (layer.name in adapters if adapters else not layer.adapter)]
    if not usual:
        raise ValueError(f"{type(model).__name__} has no linear layers (nn.Linear or Conv1D) to take gradients of.")
    return tuple(usual) if isinstance(modules, str) else _named(every, usual, modules)


def plain_name(name: str) -> str:
    """The name of the layer that an adapter wraps: without `base_layer`, `lora_A.default` and the like."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part == "base_layer" or part.startswith("lora_"):
            return ".".join(parts[:i])
    return name


def coverage(model: nn.Module, layers: Sequence[Layer]) -> float:
    """Share of the model's parameters that the weights of `layers` are, biases not counted."""
    # num_parameters knows that a 4-bit weight holds two numbers to a byte.
    total = getattr(model, "num_parameters", lambda: sum(p.numel() for p in model.parameters()))()
    return sum(layer.inputs * layer.outputs for layer in layers) / max(1, int(total))


def warn_of_experts(model: nn.Module) -> None:
    """Log the share of parameters in experts, which no hook covers."""
    names = [name for name, parameter in model.named_parameters() if _of_experts(name, parameter)]
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


def _linears(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    head = output_embeddings(model)
    of_head = set() if head is None else {id(module) for module in head.modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and id(module) not in of_head and "experts" not in name.split("."):
            yield name, module


def _layer(name: str, module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        inputs, outputs = module.in_features, module.out_features
    else:
        inputs, outputs = module.weight.shape  # type: ignore[misc]
    adapted = plain_name(name)
    group = f"{adapted.rpartition('.')[0]}{' B' if '.lora_B.' in name else ''}"
    return Layer(
        name, name.removesuffix(".base_layer"), group, module, int(inputs), int(outputs), adapter=".lora_" in name
    )


def _trained_adapters(model: nn.Module) -> set[str]:
    """Names of the LoRA layers in use, if any of them has been trained."""
    names, trained = set(), False
    for prefix, module in model.named_modules():
        wrapper = cast("Any", module)
        if not isinstance(getattr(module, "lora_B", None), nn.ModuleDict) or wrapper.disable_adapters or wrapper.merged:
            continue
        for adapter in wrapper.active_adapters:
            if adapter in wrapper.lora_B:
                names |= {f"{prefix}.lora_A.{adapter}", f"{prefix}.lora_B.{adapter}"}
                trained |= bool(wrapper.lora_B[adapter].weight.detach().any())
    return names if trained else set()


def _named(every: Sequence[Layer], usual: Sequence[Layer], modules: Sequence[str]) -> tuple[Layer, ...]:
    if not modules:
        raise ValueError("modules is empty. Name at least one layer, or use 'all'.")
    chosen = set()
    for wanted in modules:
        found = {layer.name for layer in usual if _ends_with(plain_name(layer.name), [wanted])}
        found |= {layer.name for layer in every if _ends_with(layer.name, [wanted])}
        if not found:
            known = sorted({plain_name(layer.name).rpartition(".")[2] for layer in every})
            raise ValueError(
                f"modules: no linear layer is called {wanted!r}. There are {known} (the language-model head and "
                "experts cannot be taken)."
            )
        chosen |= found
    return tuple(layer for layer in every if layer.name in chosen)


def _ends_with(name: str, endings: Sequence[str]) -> bool:
    return any(f".{name}".endswith(f".{ending}") for ending in endings)


def _of_experts(name: str, parameter: nn.Parameter) -> bool:
    return "experts" in name.split(".") and parameter.ndim >= 2 and math.prod(parameter.shape) > 0
