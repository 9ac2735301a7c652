"""Loads weights in 4 or 8 bits by the package bitsandbytes, and names the quantization of a model."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Literal, get_args

import transformers

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Quantization = Literal["4bit", "8bit"]
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)


def check_quantization(quantization: str | None, is_loaded: bool = False) -> None:
    """Checks the argument `quantization` of embedders.

    Args:
        quantization (`str`, *optional*):
            `"4bit"` or `"8bit"`.
        is_loaded (`bool`, *optional*, defaults to `False`):
            Whether the model was given as an object.

    Raises:
        `ValueError`: If there is no such quantization, or the model is loaded already.
        `ImportError`: If bitsandbytes is not installed.
    """
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, got {quantization!r}.")
    if is_loaded:
        raise ValueError("quantization is for a model loaded here; this one was given as an object.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            f"quantization={quantization!r} needs bitsandbytes: pip install bitsandbytes, or leave quantization out."
        )


def quantization_options(quantization: str, dtype: str, device: torch.device) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` that load a model in 4 bits (NF4) or in 8 bits (LLM.int8).

    Args:
        quantization (`str`):
            `"4bit"` or `"8bit"`.
        dtype (`str`):
            What products are computed in with 4 bits; with 8 bits bitsandbytes computes in float16.
        device (`torch.device`):
            Where the model is loaded: bitsandbytes quantizes while it moves weights there.
    """
    config_class: Any = transformers.BitsAndBytesConfig
    if quantization == "8bit":
        config = config_class(load_in_8bit=True)
    else:
        config = config_class(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": device}}


def quantization_of(model: nn.Module) -> str | None:
    """Returns what a model's weights were quantized by: `"4bit"`, `"8bit"` or the name of another method; or `None`."""
    config: Any = getattr(getattr(model, "config", None), "quantization_config", None)
    if config is None:
        return None
    entries = config if isinstance(config, dict) else config.to_dict()
    names = [name for name in QUANTIZATIONS if entries.get(f"load_in_{name}")]
    return names[0] if names else str(entries.get("quant_method", "quantized"))


def scales_of(module: nn.Module, parameter: Tensor) -> Tensor | None:
    """Returns the scales of a weight that bitsandbytes holds in 4 or 8 bits; `None` for any other.

    Args:
        module (`nn.Module`):
            The module that has the weight.
        parameter (`Tensor`):
            The weight.
    """
    quant_state = getattr(parameter, "quant_state", None)
    if quant_state is not None:
        return quant_state.absmax  # type: ignore[no-any-return]
    # The first pass moves the scales of 8-bit weights from the weight to the module.
    scales = getattr(parameter, "SCB", None)
    return getattr(getattr(module, "state", None), "SCB", None) if scales is None else scales
