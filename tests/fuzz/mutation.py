"""Changes JSON texts where random bytes would only break their syntax."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "a", "\ud800", "\u202e", "0" * 300, "none", "rbf", "itl", "/etc/passwd"),
    *([], {}, [[]], {"a": None}, [0, 1], ["a", 1, None]),
)


def mutate_json(content: bytes, seed: int) -> bytes | None:
    """Returns the text with one to three of its values exchanged, removed or added; `None` if it is no JSON object."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        _change(values, chance)
    return json.dumps(values).encode()


def _change(values: Any, chance: random.Random) -> None:
    """Changes a value within a dictionary or list, at any depth."""
    while True:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        if not keys:
            break
        key = chance.choice(keys)
        if not (isinstance(values[key], dict | list) and values[key] and chance.random() < 0.8):
            break
        values = values[key]
    action = chance.random()
    if keys and action < 0.7:
        values[key] = copy.deepcopy(chance.choice(_VALUES))
    elif keys and action < 0.85:
        values.pop(key)
    elif isinstance(values, dict):
        values[chance.choice(("a", "name", "kernel", "count", ""))] = copy.deepcopy(chance.choice(_VALUES))
    else:
        values.append(copy.deepcopy(chance.choice(_VALUES)))
