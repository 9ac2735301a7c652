"""What the features must equal, computed by transformers and autograd alone."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from itl_hf import Gradients, HiddenStates
from itl_hf.embedding.embedders.numerics import own_precision
from recipes.model_page.shrinking import PAD


def pooled_layers(embedder: HiddenStates, rows: list[list[int]]) -> Tensor:
    """Returns the mean of each requested entry of `hidden_states` over the tokens of each row, (B, dimension)."""
    longest = max(map(len, rows))
    model = embedder.backbone.model
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    pad = pad if isinstance(pad, int) and pad >= 0 else PAD
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **options).hidden_states
    main = getattr(model.config.get_text_config(), "altup_active_idx", None)
    layers = [states[min(layer, len(states) - 1)] for layer in embedder.layers]
    layers = [layer[0] if isinstance(layer, tuple) else layer for layer in layers]
    streams = getattr(model.config.get_text_config(), "hc_count", None)
    if streams:
        width = embedder.backbone.dimension
        layers = [layer.unflatten(-1, (-1, width)).mean(-2) if layer.shape[-1] > width else layer for layer in layers]
    layers = [_one_stream(layer, main)[:, :longest] for layer in layers]
    return torch.cat([_mean(layer, mask) for layer in layers], 1)


def _one_stream(hidden: Tensor, main: int | None) -> Tensor:
    """Returns the main one of several streams, or their mean if none is."""
    if hidden.dim() != 4:
        return hidden
    return hidden.mean(2) if main is None else hidden[main]


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None].bool(), hidden, 0.0).double().sum(1) / mask.sum(1, keepdim=True)


def sketched_gradient(embedder: Gradients, ids: list[int]) -> tuple[Tensor, float]:
    """Returns the sketch of a row's gradient, (D,), and its mean loss, by autograd through the whole model."""
    weights: list[Any] = [layer.module.weight for layer in embedder.layers]
    for weight in weights:
        weight.requires_grad_(True)
    tokens = torch.tensor([ids])
    with own_precision():
        logits = embedder.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
        precise = torch.promote_types(logits.dtype, torch.float32)
        loss = functional.cross_entropy(logits[0, :-1].to(precise), tokens[0, 1:])
        gradients = torch.autograd.grad(loss, weights)
    total = torch.zeros(embedder.dimension, dtype=torch.float64)
    for layer, gradient in zip(embedder.layers, gradients, strict=True):
        whole = (gradient.T if isinstance(layer.module, Conv1D) else gradient).double()  # (d_out, d_in)
        left = embedder.sketch.outputs(layer, whole.T[None])  # (1, d_in, k_out)
        identity = torch.eye(layer.inputs, dtype=torch.float64)
        right = embedder.sketch.columns(layer, embedder.sketch.inputs(layer, identity))  # (d_in, k_in)
        total += embedder.sketch.fold(left.transpose(1, 2) @ right[None])[0]
    return total, float(loss.detach())
