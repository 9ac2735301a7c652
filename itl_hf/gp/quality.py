"""The quality of rows and the weights of targets: noise that differs from row to row.

The answer to row x is y_x = f(x) + noise of variance r / q_x, with r the selection's noise variance and q_x in (0, 1]
the row's quality. Every formula of the Gaussian process holds with r / q_x in place of r (Rasmussen & Williams, 2006,
eq. 2.24 with a diagonal noise matrix).

A target of weight w is w copies of it: w observations of f(a) with noise variance r_A are one with r_A / w, their mean,
for any positive w.

Where nothing is known about quality, it is the number 1.0, and nothing is computed with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: One quality for all rows, or (B,) float64.
Quality = float | Tensor


def answer_noise(noise_variance: float, quality: Quality, dtype: torch.dtype) -> Quality:
    """Computes the noise variance of rows' answers, r / q: a number where the quality is one, else (B,) of `dtype`."""
    noise = noise_variance / quality
    return noise.to(dtype) if isinstance(noise, Tensor) else noise


def added_noise(noise_variance: float, quality: Quality, dtype: torch.dtype) -> Quality:
    """Computes by how much the noise variance exceeds that of rows of quality 1, r / q - r; see `answer_noise`."""
    noise = noise_variance / quality - noise_variance  # in float64: for q near 1 float32 would lose most digits
    return noise.to(dtype) if isinstance(noise, Tensor) else noise


def each(quality: Quality, count: int) -> list[float]:
    """Returns the quality of each of `count` rows."""
    qualities: list[float] = quality.tolist() if isinstance(quality, Tensor) else [quality] * count
    return qualities


def select(quality: Quality, index: Tensor | slice) -> Quality:
    """Returns the quality of some of the rows."""
    return quality[index] if isinstance(quality, Tensor) else quality


def join(parts: list[tuple[Quality, int]]) -> Quality:
    """Returns the quality of sets of rows as one, from pairs (quality, number of rows); 1.0 if all are."""
    tensors = [quality for quality, _ in parts if isinstance(quality, Tensor)]
    if not tensors:
        return 1.0
    like = tensors[0]
    return torch.cat(
        [quality if isinstance(quality, Tensor) else like.new_full((count,), quality) for quality, count in parts]
    )


def scale_rows(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Multiplies each row by the square root of its weight, (m, ...), (m,) -> (m, ...)."""
    if weights is None:
        return rows
    return rows * weights.sqrt().to(rows.dtype).view(-1, *[1] * (rows.ndim - 1))


def scale_gram(gram: Tensor, weights: Tensor | None) -> Tensor:
    """Computes W^1/2 K W^1/2 of a Gram matrix K, (m, m), (m,) -> (m, m)."""
    if weights is None:
        return gram
    roots = weights.sqrt().to(gram.dtype)
    return gram * torch.outer(roots, roots)


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Computes the mean over the first dimension, (m, B), (m,) -> (B,)."""
    if weights is None:
        return values.mean(0)
    mean: Tensor = (weights / weights.sum()).to(values.dtype) @ values
    return mean


def weighted_sum(values: Tensor, weights: Tensor | None) -> Tensor:
    """Computes the sum over the first dimension, (m,), (m,) -> ()."""
    return values.sum() if weights is None else weights.to(values.dtype) @ values
