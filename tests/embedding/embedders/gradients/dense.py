"""The same features by brute force: whole weight gradients by autograd, row by row, and one dense matrix a layer."""

from __future__ import annotations

import torch
from transformers.pytorch_utils import Conv1D


def kronecker(sketch, layer, dtype=torch.float64):
    """(k_out k_in, d_out d_in): the layer's projection of vec(G)."""
    outputs = sketch.outputs(layer, torch.eye(layer.outputs, dtype=dtype)).T  # (k_out, d_out)
    inputs = sketch.columns(layer, sketch.inputs(layer, torch.eye(layer.inputs, dtype=dtype))).T  # (k_in, d_in)
    return torch.kron(outputs.contiguous(), inputs.contiguous())


def count_sketch(sketch, rows, columns, dtype=torch.float64):
    """(D, rows * columns): which number of a core goes into which bucket, with which sign."""
    entries = torch.eye(rows * columns, dtype=dtype).view(-1, rows, columns)
    return sketch.fold(entries).T


def dense(sketch, layer, dtype=torch.float64):
    """(D, d_out d_in): the whole sketch of a layer."""
    projection = kronecker(sketch, layer, dtype)
    rows = min(layer.outputs, sketch.rank)
    return count_sketch(sketch, rows, len(projection) // rows, dtype) @ projection


def loss(model, ids, first, labels=None):
    """Mean loss of one row over its tokens from `first` on, or over given labels at all positions."""
    logits = model(input_ids=torch.tensor([ids])).logits[0]
    if labels is not None:
        return torch.nn.functional.cross_entropy(logits, labels)
    return torch.nn.functional.cross_entropy(logits[first - 1 : -1], torch.tensor(ids[first:]))


def gradients(model, layers, value):
    """The gradient of `value` with respect to each layer's weight, each (d_out, d_in)."""
    weights = [layer.module.weight for layer in layers]
    for weight in weights:
        weight.requires_grad_(True)
    weight_gradients = torch.autograd.grad(value(), weights)
    return [g.T if isinstance(layer.module, Conv1D) else g for g, layer in zip(weight_gradients, layers, strict=True)]


def features(sketch, layers, weight_gradients):
    """(D,) of one row, from the gradients of its weights."""
    return sum(dense(sketch, layer, g.dtype) @ g.reshape(-1) for g, layer in zip(weight_gradients, layers, strict=True))


def difference(rows, references):
    """The largest relative difference of a row."""
    return float(((rows.double() - references.double()).norm(dim=1) / references.double().norm(dim=1)).max())
