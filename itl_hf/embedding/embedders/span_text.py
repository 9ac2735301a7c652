"""The text of a row that encoders of plain text read."""

from __future__ import annotations

from itl_hf.text import Row, Span, plain_text


def span_text(row: Row, number: int, span: Span) -> str:
    """Returns the part of a row that is embedded, without a chat template.

    Args:
        row (`Row`):
            The row.
        number (`int`):
            Its number, for messages.
        span (`"prompt"`, `"completion"` or `"whole"`):
            The part. With `"prompt"` the completion is not read.

    Raises:
        `ValueError`: If the row has no text, or not this part.
    """
    columns = {name: text for name, text in row.items() if span != "prompt" or name != "completion"}
    try:
        prompt, completion = plain_text(columns, content_only=True)
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from error
    if span == "prompt":
        return prompt
    if span == "whole":
        # Strings are joined as they are, as in training; between messages there would be no space.
        return prompt + (completion if isinstance(row.get("prompt"), str) else f"\n{completion}".rstrip("\n"))
    if not completion:
        raise ValueError(
            f"row {number} has no completion, but span='completion'. Drop such rows, or use span='prompt' or "
            "span='whole'."
        )
    return completion
