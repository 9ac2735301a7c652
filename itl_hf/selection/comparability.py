"""Whether features of the pool and of the targets can be compared: equally many numbers, of the same parts of rows."""

from __future__ import annotations

import warnings

from itl_hf.selection.embed_job import EmbedJob


def check_widths(pool: EmbedJob, targets: EmbedJob) -> None:
    """Checks that pool and targets have equally many features.

    Raises:
        `ValueError`: If they do not.
    """
    if targets.embedder.dimension != pool.embedder.dimension:
        raise ValueError(
            f"features of the targets have {targets.embedder.dimension} numbers and those of the pool "
            f"{pool.embedder.dimension}: targets_embedder must be of the same kind"
        )


def warn_if_spans_differ(pool: EmbedJob, targets: EmbedJob) -> None:
    """Points out that whole conversations are compared with prompts alone, which finds the rows without an answer."""
    spans = pool.fingerprint.get("span"), targets.fingerprint.get("span")
    if spans == ("whole", "whole") and _has_completion(pool) and not _has_completion(targets):
        warnings.warn(
            "the pool's rows are embedded with their completions and the targets have none: whether a text has an "
            "answer is then most of what is compared. Use span='prompt', or give the targets completions.",
            stacklevel=5,
        )


def _has_completion(job: EmbedJob) -> bool:
    """Returns whether the first row has an answer; a row that was skipped has none."""
    return any(job.reading.sample.get(0, ("", ""))[1:])
