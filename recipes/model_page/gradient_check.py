"""Compares the gradients of a batch with those of autograd, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itl_hf import Gradients
from recipes.model_page.references import sketched_gradient
from recipes.model_page.rows import word_ids, word_rows, word_tokenizer


def check_gradients(make: Callable[[], Any]) -> tuple[float | None, float, str]:
    """Returns the largest relative difference, the share of parameters whose gradients are taken, and a note.

    Float64 where the model computes in it, since rounding in float32 exceeds 1e-5 for some architectures; the note says
    so where it does not.
    """
    Gradients(make(), tokenizer=word_tokenizer(), labels="whole")  # raises the reason of a refusal
    try:
        return *difference_of(make().double()), ""
    except (RuntimeError, TypeError) as error:
        if "dtype" not in str(error) and "type" not in str(error) and "Double" not in str(error):
            raise
    return *difference_of(make()), "in float32"


def difference_of(model: Any) -> tuple[float, float]:
    """Returns the largest relative difference from autograd, and the share of parameters."""
    options: dict[str, Any] = {"labels": "whole", "normalize": False, "dimension": 2048}
    embedder = Gradients(model, tokenizer=word_tokenizer(), **options)
    embedded = embedder.embed(word_rows())
    differences = []
    for ids, features, loss in zip(word_ids(), embedded.features, embedded.columns["loss"], strict=True):
        reference, exact_loss = sketched_gradient(embedder, ids)
        differences.append(float((features.double() - reference).norm() / reference.norm().clamp_min(1e-30)))
        differences.append(abs(float(loss) - exact_loss) / max(abs(exact_loss), 1e-30))
    return max(differences), embedder.coverage()
