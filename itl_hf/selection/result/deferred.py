"""`DeferredArray`: a field of a dataclass that is computed when it is read for the first time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class DeferredArray:
    """A field that holds an array, or a function that returns one, which is called once.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass(frozen=True)
        ... class Pair:
        ...     first: DeferredArray = DeferredArray()
        >>> Pair(lambda: np.ones(1)).first
        array([1.])
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> np.ndarray:
        if instance is None:  # the field has no default
            raise AttributeError(self._name)
        value = vars(instance)[self._name]
        if callable(value):
            value = vars(instance)[self._name] = value()
        array: np.ndarray = value
        return array

    def __set__(self, instance: Any, value: np.ndarray | Callable[[], np.ndarray]) -> None:
        vars(instance)[self._name] = value


class OptionalDeferredArray(DeferredArray):
    """The same for a field that may hold `None`, which is its default."""

    def __get__(self, instance: Any, owner: type | None = None) -> np.ndarray | None:  # type: ignore[override]
        """Returns the array, or `None` if there is none."""
        if instance is None or vars(instance)[self._name] is None:
            return None
        return super().__get__(instance, owner)

    def __set__(self, instance: Any, value: np.ndarray | Callable[[], np.ndarray] | None) -> None:
        vars(instance)[self._name] = value
