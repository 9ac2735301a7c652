"""Pooling: averages the hidden states of a row's positions with weights.

A pooling is a row of weights over positions that sum to 1, so several poolings cost one matrix product. It is computed
in float32, whatever the model runs in. Not covered: attention pooling or anything else with parameters of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch

from itl_hf.text import Span, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "last", "weighted_mean"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True)
class Part:
    """The columns of a feature row that hold one layer under one pooling.

    Args:
        layer (`int`):
            Index into transformers' `hidden_states`.
        pooling (`"mean"`, `"last"` or `"weighted_mean"`):
            How its positions are pooled.
        start (`int`):
            First column.
        stop (`int`):
            Column after the last.

    Example:
        >>> part = Part(22, "mean", 0, 576)
        >>> features[:, part.columns]  # doctest: +SKIP
    """

    layer: int
    pooling: Pooling
    start: int
    stop: int

    @property
    def columns(self) -> slice:
        """The columns as a slice."""
        return slice(self.start, self.stop)


def parts_of(layers: Sequence[int], poolings: Sequence[Pooling], widths: Sequence[int]) -> tuple[Part, ...]:
    """Returns the parts of a feature row: layer by layer in the order given, and within a layer pooling by pooling.

    Example:
        >>> [(part.layer, part.pooling, part.start) for part in parts_of([15, 22], ["mean", "last"], [576, 576])]
        [(15, 'mean', 0), (15, 'last', 576), (22, 'mean', 1152), (22, 'last', 1728)]
    """
    parts = [(layer, pooling, width) for layer, width in zip(layers, widths, strict=True) for pooling in poolings]
    stops = list(itertools.accumulate(width for *_, width in parts))
    return tuple(
        Part(layer, pooling, stop - width, stop) for (layer, pooling, width), stop in zip(parts, stops, strict=True)
    )


def span_positions(rows: Sequence[Tokens], span: Span, length: int, skip_tokens: int = 0) -> Tensor:
    """Marks the positions of right-padded rows that are pooled.

    Args:
        rows (`Sequence[Tokens]`):
            B rows of at most `length` tokens.
        span (`"prompt"`, `"completion"` or `"whole"`):
            The part of each row.
        length (`int`):
            T, the padded length.
        skip_tokens (`int`, *optional*, defaults to 0):
            Number of tokens at the start of the text that are not pooled, whatever the span. A span with no other
            tokens keeps its last one.

    Returns:
        `Tensor`: Shape (B, T), bool.

    Example:
        >>> span_positions([Tokens([5, 6, 7], prompt_length=2)], "prompt", 4, skip_tokens=1)
        tensor([[False,  True, False, False]])
    """
    positions = torch.zeros(len(rows), length, dtype=torch.bool)  # (B, T)
    for i, row in enumerate(rows):
        start, end = row.span(span)
        positions[i, min(max(start, skip_tokens), max(end - 1, start)) : end] = True
    return positions


def pooling_weights(span: Tensor, pooling: Pooling) -> Tensor:
    """Returns weights over positions that are 0 outside the span and sum to 1.

    Args:
        span (`Tensor`):
            Shape (B, T), bool, at least one position per row.
        pooling (`"mean"`, `"last"` or `"weighted_mean"`):
            `"weighted_mean"` gives the positions of the span weights in proportion to 1, 2, ..., their number.

    Returns:
        `Tensor`: Shape (B, T), float32.

    Example:
        >>> pooling_weights(torch.tensor([[True, True, False]]), "weighted_mean")
        tensor([[0.3333, 0.6667, 0.0000]])
    """
    order = span.cumsum(1)  # (B, T), counts from 1 inside the span
    if pooling == "mean":
        weights = span.float()
    elif pooling == "last":
        weights = (span & (order == order[:, -1:])).float()
    else:
        weights = order.float() * span
    return weights / weights.sum(1, keepdim=True)


def pool(hidden: Tensor, span: Tensor, pooling: Pooling | Sequence[Pooling]) -> Tensor:
    """Pools the positions of a span, in float32.

    Args:
        hidden (`Tensor`):
            Shape (B, T, d), any float type. Values outside the span have no influence, NaN included.
        span (`Tensor`):
            Shape (B, T), bool, at least one position per row.
        pooling (`str` or `Sequence[str]`):
            A pooling, or P of them, whose results are concatenated.

    Returns:
        `Tensor`: Shape (B, P d), float32.

    Example:
        >>> hidden, span = torch.tensor([[[1.0], [4.0]]]), torch.tensor([[True, True]])
        >>> pool(hidden, span, "weighted_mean"), pool(hidden, span, ["last", "mean"])
        (tensor([[3.]]), tensor([[4.0000, 2.5000]]))
    """
    names: Sequence[Pooling] = [pooling] if isinstance(pooling, str) else pooling
    weights = torch.stack([pooling_weights(span, name) for name in names], 1)  # (B, P, T)
    inside = torch.where(span[..., None], hidden.float(), 0.0)  # (B, T, d)
    return torch.bmm(weights, inside).flatten(1)


def resolve_layer(layer: int | float, num_layers: int) -> int:
    """Returns the index, from 0 to `num_layers`, of a layer: a float is a share of the depth, a negative int counts
    from the end.

    Raises:
        `ValueError`: If `layer` is out of range.
        `TypeError`: If it is neither an int nor a float.

    Example:
        >>> resolve_layer(0.75, 30), resolve_layer(-1, 30)
        (22, 30)
    """
    if isinstance(layer, float):
        if not 0 < layer <= 1:
            raise ValueError(
                f"layer as a float is a share of the depth in (0, 1], got {layer}. Use an int for an index."
            )
        return math.floor(layer * num_layers + 1e-9)
    if isinstance(layer, bool) or not isinstance(layer, int):
        raise TypeError(f"layer must be an int, a float or a list of them, got {type(layer).__name__}.")
    if not -num_layers - 1 <= layer <= num_layers:
        raise ValueError(
            f"layer {layer} is out of range: the model has hidden states 0 to {num_layers} (or -1 to "
            f"{-num_layers - 1})."
        )
    return layer % (num_layers + 1)


def resolve_layers(layers: int | float | Sequence[int | float], num_layers: int) -> tuple[int, ...]:
    """Returns the indices of one layer or several, in the order given; see `resolve_layer`.

    Raises:
        `ValueError`: If there is no layer, a layer is out of range, or the same one is given twice.
        `TypeError`: If a layer is neither an int nor a float.

    Example:
        >>> resolve_layers([0.25, 0.5, -1], 30)
        (7, 15, 30)
    """
    as_list = layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [cast(float, layers)]
    indices = tuple(resolve_layer(layer, num_layers) for layer in as_list)
    if not indices or len(set(indices)) < len(indices):
        raise ValueError(
            f"layer must name one layer or different ones, got {layers!r}, which is {indices} of {num_layers}."
        )
    return indices


def resolve_poolings(pooling: str | Sequence[str]) -> tuple[Pooling, ...]:
    """Returns one pooling or several as a tuple.

    Raises:
        `ValueError`: If one is unknown, there is none, or the same one is given twice.

    Example:
        >>> resolve_poolings(["mean", "last"])
        ('mean', 'last')
    """
    names = (pooling,) if isinstance(pooling, str) else tuple(pooling)
    if not names or not set(names) <= set(POOLINGS):
        raise ValueError(f"pooling must be one of {POOLINGS} or a list of them, got {pooling!r}.")
    if len(set(names)) < len(names):
        raise ValueError(f"pooling names {pooling!r} twice the same; leave one out.")
    return cast("tuple[Pooling, ...]", names)
