"""Questions with choices, as in MMLU, ARC and CommonsenseQA: the choices belong to the prompt."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any


def has_choices(row: Mapping[str, Any]) -> bool:
    """Returns whether the column `choices` of a row holds choices, or may in other rows."""
    return row.get("choices") is None or isinstance(row["choices"], list | Mapping)


def question_and_choice(question: Any, choices: Any, answer: Any) -> tuple[str, str | None]:
    r"""Returns the question with its lettered choices, and the letter of the right one.

    Args:
        question (`str`):
            The question.
        choices (`list[str]` or `dict`):
            The choices, or their `text` and `label`.
        answer (`int` or `str`):
            Number of the right choice from 0 on, its label, or its text.

    Raises:
        `ValueError`: If there are no choices, or the answer is none of them.

    Example:
        >>> question_and_choice("2 + 2?", ["3", "4"], 1)
        ('2 + 2?\n\nA. 3\nB. 4', 'B')
    """
    texts, labels = _texts_and_labels(choices)
    lines = [f"{label}. {text}" for label, text in zip(labels, texts, strict=True)]
    return f"{question}\n\n" + "\n".join(lines), _label_of(answer, texts, labels)


def _texts_and_labels(choices: Any) -> tuple[list[str], list[str]]:
    labels: Any = None
    if isinstance(choices, Mapping):
        choices, labels = choices.get("text"), choices.get("label")
    if not isinstance(choices, list) or not choices:
        raise ValueError("there are no choices")
    return [str(choice) for choice in choices], list(map(str, labels or string.ascii_uppercase[: len(choices)]))


def _label_of(answer: Any, texts: Sequence[str], labels: Sequence[str]) -> str | None:
    if answer is None or answer == "":
        return None
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(labels):
        return labels[answer]
    if str(answer) in labels:
        return str(answer)
    if str(answer) in texts:
        return labels[texts.index(str(answer))]
    raise ValueError(f"the answer {answer!r} is none of the choices")
