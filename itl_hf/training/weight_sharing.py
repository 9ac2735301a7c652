"""`shares_weights`: checks whether an embedder reads the model in training.

Active rounds are only useful if the selector's embedder holds the live model. An embedder of another model object would
pick in every round as if nothing had been learned, without an error.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

#: How many levels of attributes of attributes of an embedder are searched for its model.
_MAX_DEPTH = 6


def shares_weights(embedder: Any, model: nn.Module) -> bool | None:
    """Returns whether an embedder holds weights of this very model.

    Args:
        embedder (`Embedder`):
            An embedder, whose attributes are searched recursively.
        model (`nn.Module`):
            The model in training, wrapped or not.

    Returns:
        `bool` or `None`: `None` if no PyTorch model is found in the embedder.
    """
    model_parameters = {id(parameter) for parameter in model.parameters()}
    visited_ids: set[int] = set()
    stack: list[tuple[Any, int]] = [(embedder, 0)]
    answer: bool | None = None
    while stack:
        value, depth = stack.pop()
        if id(value) in visited_ids or depth > _MAX_DEPTH:
            continue
        visited_ids.add(id(value))
        if isinstance(value, torch.nn.Module):
            if any(id(parameter) in model_parameters for parameter in value.parameters()):
                return True
            answer = False
            continue
        stack += [(part, depth + 1) for part in _parts(value)]
    return answer


def _parts(value: Any) -> list[Any]:
    """Returns the values that an object holds: items, arguments or attributes."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value[:64])
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    owner = getattr(value, "__self__", None)
    if isinstance(owner, torch.nn.Module):  # the value is a method of a model
        return [owner]
    if isinstance(value, type) or type(value).__module__ in ("builtins", "torch", "numpy"):
        return []
    return list(getattr(value, "__dict__", {}).values())
