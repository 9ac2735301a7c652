"""Checks that options are of the right kind, where another kind would be read as something else or fail late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def check_instance(name: str, value: Any, attributes: tuple[str, ...], remedy: str) -> None:
    """Checks an object that users pass as an option.

    Args:
        name (`str`):
            Name of the option.
        value (`Any`):
            What was passed.
        attributes (`tuple[str, ...]`):
            Attributes that the object has to have.
        remedy (`str`):
            What to pass instead.

    Raises:
        `TypeError`: If it is a class instead of an object, or lacks an attribute.
    """
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}: pass an object of it, {value.__name__}()")
    if not all(hasattr(value, attribute) for attribute in attributes):
        raise TypeError(f"{name} must be {remedy}, got {type(value).__name__}")


def plain_number(value: Any) -> Any:
    """Returns a NumPy number as Python's, which JSON and `isinstance` know; everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def check_constraint_types(replace: Any, token_budget: Any, group_shares: Any, stop_when: Any) -> None:
    """Checks those constraints whose wrong kinds would be taken for other values.

    Raises:
        `TypeError`: If `replace` is not `True` or `False`, or one of the others is no number, no share or no
            `StopWhen`.
    """
    if not isinstance(replace, bool):
        raise TypeError(f"replace must be True or False, got {replace!r}")
    is_number = isinstance(token_budget, int | float) or hasattr(token_budget, "__float__")
    if token_budget is not None and (isinstance(token_budget, bool | str) or not is_number):
        raise TypeError(f"token_budget must be a positive number, got {token_budget!r}")
    if group_shares is not None and not _are_shares(group_shares):
        raise TypeError(
            "group_shares must be the largest share of every group, such as 0.5, or a dict from labels to pairs "
            f"(smallest, largest), such as {{'code': (0.1, 0.5)}}; got {group_shares!r:.80}"
        )
    if stop_when is not None and not hasattr(stop_when, "rule"):
        raise TypeError(f"stop_when must be StopWhen(gain=...) or StopWhen(variance_left=...), got {stop_when!r}")


def _are_shares(shares: Any) -> bool:
    if not isinstance(shares, Mapping):
        return _is_number(shares)
    pairs = [pair for pair in shares.values() if isinstance(pair, Sequence | np.ndarray) and not isinstance(pair, str)]
    return len(pairs) == len(shares) and all(len(pair) == 2 and all(map(_is_number, pair)) for pair in pairs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
