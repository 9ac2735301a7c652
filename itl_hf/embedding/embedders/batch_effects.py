"""Finds out, on a few tokens, whether a model's features of a row depend on the other rows of its batch.

Some architectures ignore the attention mask in part: the Fourier transform of FNet, the convolutions of ConvBERT, the
neighbouring embeddings of MobileBERT, the landmarks of Nystromformer. Padding then changes a row. Mixtures of experts
with a capacity (Switch) drop tokens where a batch has many.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from itl_hf.embedding.embedders.batching import Grouping, TokenBatches
from itl_hf.text import Span, Tokens

logger = logging.getLogger(__name__)
#: Tokens of the row that is compared, and of the longer row beside it.
SHORT, LONG = 7, 24
#: Largest relative change of a row that is rounding: by float32 and by half precision.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
HALF_ROUNDING = 0.03
LINES: dict[Grouping, str] = {
    "equal lengths": "padding changes a row's features by %.2g: batches hold rows of one length only, which takes "
    "longer.",
    "single rows": "the other rows of a batch change a row's features by %.2g: rows are run one by one, which takes "
    "longer.",
}


def choose_grouping(
    batches: TokenBatches,
    features: Callable[[Sequence[Tokens]], Tensor],
    rows: Sequence[Tokens],
    *,
    span: Span,
    max_length: int,
    dtype: torch.dtype,
    name: str,
) -> None:
    """Sets `batches.grouping` to the first of its kinds under which the features of a row do not depend on its batch.

    Args:
        batches (`TokenBatches`):
            The batches of the embedder; nothing happens if their grouping was chosen before.
        features (`Callable`):
            Computes the features of a few rows in one batch, (B, d).
        rows (`Sequence[Tokens]`):
            Rows whose tokens are used.
        span (`"prompt"`, `"completion"` or `"whole"`):
            The part of a row that is embedded.
        max_length (`int`):
            Most tokens of a row.
        dtype (`torch.dtype`):
            Type that the model computes with.
        name (`str`):
            The model's name, for the line that is logged.
    """
    if batches.grouping is not None or not rows:
        return
    short, long, equal = probe_rows(rows, span, max_length)
    alone, padded, others = (features(few_rows)[0] for few_rows in ([short], [short, long], [short, equal]))
    set_grouping(batches, alone, padded, others, dtype=dtype, name=name)


def set_grouping(
    batches: TokenBatches, alone: Tensor, padded: Tensor, beside_equal: Tensor, *, dtype: torch.dtype, name: str
) -> None:
    """Sets `batches.grouping`, given the features of one row in three batches; logs a line if not any batch will do.

    Args:
        batches (`TokenBatches`):
            The batches of the embedder.
        alone (`Tensor`):
            Shape (d,): features of the row in a batch of its own.
        padded (`Tensor`):
            Shape (d,): its features in a batch with a longer row.
        beside_equal (`Tensor`):
            Shape (d,): its features in a batch with a row of its length.
        dtype (`torch.dtype`):
            Type that the model computes with.
        name (`str`):
            The model's name, for the line that is logged.
    """
    tolerance = ROUNDING.get(dtype, HALF_ROUNDING)
    by_padding, by_others = _relative_change(padded, alone), _relative_change(beside_equal, alone)
    if by_others > tolerance:
        batches.grouping, change = "single rows", by_others
    elif by_padding > tolerance:
        batches.grouping, change = "equal lengths", by_padding
    else:
        batches.grouping = "padded"
        return
    logger.warning(f"{name}: {LINES[batches.grouping]}", change)


def probe_rows(rows: Sequence[Tokens], span: Span, max_length: int) -> tuple[Tokens, Tokens, Tokens]:
    """Returns a short row, a longer one and a third as long as the first, from the tokens of `rows`."""
    ids = list(itertools.islice(itertools.chain.from_iterable(row.input_ids for row in rows), SHORT + LONG))
    numbers = list(itertools.islice(itertools.cycle(ids), SHORT + LONG))
    short = numbers[: min(SHORT, max_length)]
    parts = (short, numbers[SHORT:][:max_length], short[::-1])
    return tuple(  # type: ignore[return-value]
        Tokens(part, len(part) if span == "prompt" else max(1, len(part) // 2)) for part in parts
    )


def _relative_change(features: Tensor, reference: Tensor) -> float:
    features, reference = features.double(), reference.double()
    same = torch.equal(features.isnan(), reference.isnan())
    change = (features - reference).nan_to_num().norm() / reference.nan_to_num().norm().clamp_min(1e-300)
    return float(change) if same else float("inf")
