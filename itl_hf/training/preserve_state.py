"""Using a model in the middle of its training without leaving a trace.

Embedding rows with the live model switches it to evaluation mode, may draw random numbers, set hooks, freeze weights or
leave gradients. Training must go on as if nothing had happened, and a resumed run, which finds these picks in its
checkpoint and does not embed, must go on in the same way.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_DEEPEST = 6  # attributes of attributes in which an embedder's model is looked for


@contextlib.contextmanager
def preserve_training_state(model: nn.Module, seed: list[int]) -> Iterator[None]:
    """Puts everything back afterwards: random states, and the model's modes, hooks, `requires_grad` and gradients.

    Hooks of transformers itself stay: they do nothing unless asked for hidden states. Inside, all random generators
    start from `seed`, so that what is drawn there depends on nothing else.

    Args:
        model (`nn.Module`):
            The model in training.
        seed (`list[int]`):
            Any whole numbers of at least 0, the same on every process.

    Example:
        >>> model = torch.nn.Linear(2, 2).train()
        >>> before = torch.get_rng_state()
        >>> with preserve_training_state(model, seed=[0, 3]):
        ...     _ = model.eval()(torch.randn(1, 2))
        >>> model.training, torch.equal(torch.get_rng_state(), before)
        (True, True)
    """
    with _random_states(seed), _model_state(model):
        yield


@contextlib.contextmanager
def _random_states(seed: list[int]) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    drawn = int(np.random.SeedSequence(seed).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)  # noqa: NPY002
    torch.manual_seed(drawn)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextlib.contextmanager
def _model_state(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    hooks = [(table, dict(table)) for module in model.modules() for table in _hook_tables(module)]
    weights = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for table, entries in hooks:
            lasting = {key: hook for key, hook in table.items() if _is_installed_once(hook)}
            if table.keys() != entries.keys() | lasting.keys():
                table.clear()
                table.update({**entries, **lasting})
        for parameter, requires_grad, gradient in weights:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient


def _is_installed_once(hook: Any) -> bool:
    # transformers sets its capturing hooks at the first `output_hidden_states=True` and remembers that they are there.
    return str(getattr(hook, "__module__", "")).startswith("transformers.")


def _hook_tables(module: nn.Module) -> list[dict[int, Any]]:
    return [table for name in _HOOKS if (table := getattr(module, name, None)) is not None]


def shares_weights(embedder: Any, model: nn.Module) -> bool | None:
    """Whether an embedder holds weights of this very model.

    Args:
        embedder (`Embedder`):
            Looked through, attribute by attribute.
        model (`nn.Module`):
            The model in training, wrapped or not.

    Returns:
        `bool` or `None`: `None` if the embedder holds no PyTorch model at all that can be found.
    """
    wanted = {id(parameter) for parameter in model.parameters()}
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(embedder, 0)]
    answer: bool | None = None
    while waiting:
        thing, depth = waiting.pop()
        if id(thing) in seen or depth > _DEEPEST:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.nn.Module):
            if any(id(parameter) in wanted for parameter in thing.parameters()):
                return True
            answer = False
            continue
        waiting += [(part, depth + 1) for part in _parts(thing)]
    return answer


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, list | tuple):
        return list(thing[:64])
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    owner = getattr(thing, "__self__", None)
    if isinstance(owner, torch.nn.Module):  # one of its methods
        return [owner]
    if isinstance(thing, type) or type(thing).__module__ in ("builtins", "torch", "numpy"):
        return []
    return list(getattr(thing, "__dict__", {}).values())
