"""Checks that options are of the right kind, where another kind would be read as something else or fail late."""

from __future__ import annotations

from typing import Any


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


def check_constraint_types(replace: Any, token_budget: Any, stop_when: Any) -> None:
    """Checks those constraints whose wrong kinds would be taken for other values.

    Raises:
        `TypeError`: If `replace` is not `True` or `False`, or one of the others is no number or no `StopWhen`.
    """
    if not isinstance(replace, bool):
        raise TypeError(f"replace must be True or False, got {replace!r}")
    is_number = isinstance(token_budget, int | float) or hasattr(token_budget, "__float__")
    if token_budget is not None and (isinstance(token_budget, bool | str) or not is_number):
        raise TypeError(f"token_budget must be a positive number, got {token_budget!r}")
    if stop_when is not None and not hasattr(stop_when, "rule"):
        raise TypeError(f"stop_when must be StopWhen(gain=...) or StopWhen(variance_left=...), got {stop_when!r}")
