"""`option`: a field of a dataclass of options of the command line."""

from __future__ import annotations

import dataclasses
from typing import Any


def option(default: Any, help_text: str, *aliases: str, metavar: str | None = None) -> Any:
    """A field of a dataclass of options.

    Args:
        default (`Any`):
            The option's default.
        help_text (`str`):
            What `--help` says.
        *aliases (`str`):
            Further spellings, such as `"--model"`.
        metavar (`str`, *optional*):
            What `--help` shows for the value.
    """
    metadata: dict[str, Any] = {"help": help_text, "aliases": list(aliases)}
    return dataclasses.field(default=default, metadata=metadata | ({} if metavar is None else {"metavar": metavar}))
