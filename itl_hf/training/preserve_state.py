"""`preserve_training_state`: uses a model in the middle of its training without changing how training continues.

Embedding rows with the live model switches it to evaluation mode, may draw random numbers, register hooks, freeze
weights or leave gradients. Training must continue as if the model had not been used, and a resumed run, which reads the
picks from its checkpoint and does not embed, must continue in the same way.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn

_HOOK_ATTRIBUTES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextlib.contextmanager
def preserve_training_state(model: nn.Module, seed: list[int]) -> Iterator[None]:
    """Restores the random states and the model's modes, hooks, `requires_grad` and gradients when the block ends.

    Hooks that transformers itself registers are kept: they have no effect unless hidden states are requested. Inside
    the block all random generators start from `seed`, so that random numbers there depend on nothing else.

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
    with _preserve_random_states(seed), _preserve_model_state(model):
        yield


@contextlib.contextmanager
def _preserve_random_states(seed: list[int]) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    block_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    random.seed(block_seed)
    np.random.seed(block_seed)  # noqa: NPY002
    torch.manual_seed(block_seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


@contextlib.contextmanager
def _preserve_model_state(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    hooks = [(table, dict(table)) for module in model.modules() for table in _hook_tables(module)]
    weights = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for table, entries in hooks:
            permanent_hooks = {key: hook for key, hook in table.items() if _is_permanent_hook(hook)}
            if table.keys() != entries.keys() | permanent_hooks.keys():
                table.clear()
                table.update({**entries, **permanent_hooks})
        for parameter, requires_grad, gradient in weights:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient


def _is_permanent_hook(hook: Any) -> bool:
    # transformers registers the hooks that capture hidden states once, at the first `output_hidden_states=True`, and
    # would not register them again.
    return str(getattr(hook, "__module__", "")).startswith("transformers.")


def _hook_tables(module: nn.Module) -> list[dict[int, Any]]:
    return [table for name in _HOOK_ATTRIBUTES if (table := getattr(module, name, None)) is not None]
