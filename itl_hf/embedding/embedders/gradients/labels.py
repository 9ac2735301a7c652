"""Which tokens of a row the loss is taken on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from itl_hf.text import Span, Tokens

LabelKind = Literal["completion", "whole", "predicted"]


@dataclass(frozen=True)
class Labels:
    """The N positions of a batch that have a label.

    Args:
        rows (`Tensor`):
            Shape (N,), int64, ascending: the row of each position.
        positions (`Tensor`):
            Shape (N,), the position whose logits predict the label.
        tokens (`Tensor`, *optional*):
            Shape (N,), the label; `None` for the model's own most likely token.
        weights (`Tensor`):
            Shape (N,), float32, 1 / (number of labels of the row): a row's loss is a mean.
    """

    rows: Tensor
    positions: Tensor
    tokens: Tensor | None
    weights: Tensor

    def to(self, device: torch.device) -> Labels:
        """Returns the labels on another device."""
        tokens = None if self.tokens is None else self.tokens.to(device)
        return Labels(self.rows.to(device), self.positions.to(device), tokens, self.weights.to(device))


def span_for(kind: LabelKind) -> Span:
    """Returns the part of a row that the model reads for labels of this kind.

    Raises:
        `ValueError`: If there is no such kind of labels.
    """
    if kind not in get_args(LabelKind):
        raise ValueError(f"labels must be one of {get_args(LabelKind)}, got {kind!r}.")
    return "prompt" if kind == "predicted" else "whole"


def input_ids_of(row: Tokens, kind: LabelKind) -> list[int]:
    """Returns the ids that the model reads: all but the last, which has no label after it, unless labels are predicted.

    Example:
        >>> from itl_hf.text import Tokens
        >>> input_ids_of(Tokens([5, 6, 7], prompt_length=1), "completion")
        [5, 6]
    """
    return row.input_ids if kind == "predicted" else row.input_ids[:-1]


def label_count(row: Tokens, kind: LabelKind) -> int:
    """Returns the number of positions of a row that have a label.

    Example:
        >>> from itl_hf.text import Tokens
        >>> [label_count(Tokens([5, 6, 7], prompt_length=2), kind) for kind in ("completion", "whole", "predicted")]
        [1, 2, 3]
    """
    if kind == "predicted":
        return len(row.input_ids)
    return max(0, len(row.input_ids) - _first_label(row, kind))


def labels_of(rows: Sequence[Tokens], kind: LabelKind) -> Labels:
    """Returns the labels of a batch of rows, each of which has at least one."""
    counts = torch.tensor([label_count(row, kind) for row in rows])  # (B,)
    row_numbers = torch.arange(len(rows)).repeat_interleave(counts)  # (N,)
    starts = [_first_label(row, kind) - 1 for row in rows]
    positions = torch.cat([torch.arange(s, s + int(n)) for s, n in zip(starts, counts, strict=True)])
    tokens = None
    if kind != "predicted":
        tokens = torch.tensor([token for row in rows for token in row.input_ids[_first_label(row, kind) :]])
    return Labels(row_numbers, positions, tokens, (1 / counts.float())[row_numbers])


def _first_label(row: Tokens, kind: LabelKind) -> int:
    """Returns the first position whose token is a label; nothing comes before the very first token of a row."""
    return max(1, row.prompt_length) if kind == "completion" else 1
