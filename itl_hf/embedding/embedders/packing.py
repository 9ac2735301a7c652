"""Packing: concatenates the rows of a batch into one sequence, so that there is no padding.

Attention must then separate the rows. Variable-length kernels (flash attention) do so at no cost. For causal decoders
with other attention, transformers' masks do so with a mask of (all tokens)^2 entries, which costs more than the padding
that is saved (SmolLM2 on a CPU: a fifth longer). Since batches here are sorted by length and at most a twentieth of
them is padding, there is little to gain: packing is an option, off by default.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def check_packing(model: PreTrainedModel) -> None:
    """Checks that a model accepts the positions of its tokens.

    Raises:
        `ValueError`: If its `forward` takes no `position_ids`.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"packing=True needs a model that takes position_ids, which {type(model).__name__} does not.")


def pack(input_ids: Tensor, attention_mask: Tensor, attention: str | None = None) -> dict[str, Any]:
    """Returns the model's inputs for a packed batch in place of a padded one.

    Args:
        input_ids (`Tensor`):
            Shape (B, T), right-padded.
        attention_mask (`Tensor`):
            Shape (B, T), 1 at tokens and 0 at padding; N tokens in all.
        attention (`str`, *optional*):
            The model's attention. Flash attention needs the bounds of the rows; others derive them from the positions.

    Returns:
        `dict[str, Any]`: `input_ids` and `position_ids`, each (1, N); positions start from 0 at each row.

    Example:
        >>> packed = pack(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
        >>> packed["input_ids"], packed["position_ids"]
        (tensor([[5, 6, 7, 8, 9]]), tensor([[0, 1, 2, 0, 1]]))
    """
    tokens = attention_mask.bool()
    positions = tokens.cumsum(1) - 1  # (B, T)
    packed: dict[str, Any] = {"input_ids": input_ids[tokens][None], "position_ids": positions[tokens][None]}
    if (attention or "").startswith("flash"):
        bounds = torch.nn.functional.pad(tokens.sum(1).cumsum(0), (1, 0)).int()  # (B + 1,)
        longest = int(tokens.sum(1).max())
        packed |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}
        packed |= {"max_length_q": longest, "max_length_k": longest}
    return packed


def unpack(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Converts the hidden states of a packed batch to those of a padded one.

    Args:
        hidden (`Tensor`):
            Shape (1, N, d).
        attention_mask (`Tensor`):
            Shape (B, T), as for `pack`.

    Returns:
        `Tensor`: Shape (B, T, d), zeros at padding.

    Example:
        >>> unpack(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[1, 1], [1, 0]]))[:, :, 0]
        tensor([[1., 2.],
                [3., 0.]])
    """
    tokens = attention_mask.bool()
    padded = hidden.new_zeros(*tokens.shape, hidden.shape[-1])  # (B, T, d)
    padded[tokens] = hidden[0]
    return padded


def probe(vocabulary: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns ids and mask, each (2, 8), of two short rows of different length that share no token."""
    ids = torch.arange(1, 17, device=device).reshape(2, 8) % vocabulary
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask
