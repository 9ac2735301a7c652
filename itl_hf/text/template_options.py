"""The options of a chat template that a row may bring (`chat_template_kwargs`), and those that it may not.

A row is data. A template of its own would be a program that rewrites other parts of the row or never ends, and the
other arguments of `apply_chat_template` decide what is returned and not what the template says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itl_hf.text.parse import parsed_json

if TYPE_CHECKING:
    from datasets import Dataset

COLUMN = "chat_template_kwargs"
#: Arguments of `apply_chat_template` that are for the caller. `tools` and `documents` are data, and allowed.
CALLERS_ARGUMENTS = frozenset(
    {
        *("self", "conversation", "conversations", "messages", "chat_template", "template", "tokenizer_kwargs"),
        *("add_generation_prompt", "continue_final_message", "tokenize", "return_assistant_tokens_mask"),
        *("padding", "truncation", "max_length", "return_tensors", "return_dict", "processor_kwargs"),
    }
)


def template_options(value: Any, where: str = "") -> dict[str, Any]:
    """Returns the options that a row's `chat_template_kwargs` hold.

    Args:
        value (`Any`):
            A mapping, its JSON text, or `None`.
        where (`str`, *optional*):
            Beginning of an error message, such as `"row 3: "`.

    Raises:
        `ValueError`: If the value is no mapping, or has an argument that a row may not bring.

    Example:
        >>> template_options({"enable_thinking": False, "chat_template": None})
        {'enable_thinking': False}
    """
    options = parsed_json(value) or {}
    if not isinstance(options, Mapping):
        raise ValueError(
            f"{where}column {COLUMN!r} must be a mapping such as {{'enable_thinking': False}}, got "
            f"{type(options).__name__}. Drop the column: dataset.remove_columns({COLUMN!r})"
        )
    for name in sorted(CALLERS_ARGUMENTS & set(options)):
        if options[name] is not None:
            raise ValueError(
                f"{where}column {COLUMN!r} has {name!r}, which a row may not bring: a template from a dataset could "
                "rewrite or hang everything. Set tokenizer.chat_template if you trust it, and drop the column: "
                f"dataset.remove_columns({COLUMN!r})"
            )
    # One table for all rows holds None for the keys of other rows.
    return {name: option for name, option in options.items() if name not in CALLERS_ARGUMENTS}


def check_template_options(rows: Dataset, name: str) -> None:
    """Raises `ValueError` if a row brings an option that it may not bring, before a trainer reads the rows."""
    if COLUMN in rows.column_names:
        for number, value in enumerate(rows[COLUMN]):
            template_options(value, f"{name}: row {number}: ")
