"""Tries a model on a few tokens: which layers a gradient reaches, and whether their gradients are those of the rows.

A layer's gradient is computed from its input and from the gradient of its output (`hooks`). That is right if the module
runs, works on every position of every row separately, and its weight is used nowhere else. Layers for which it is not
are left out: the towers of a vision model that text does not enter, Mamba's `dt_proj` (used by its weight), routers
that return several tensors. Models in which a token sees those after it are refused, since a causal loss means nothing
there.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.pytorch_utils import Conv1D

from itl_hf.embedding.embedders.gradients.hooks import by_position, frozen, start_of_graph
from itl_hf.embedding.embedders.gradients.labels import labels_of
from itl_hf.embedding.embedders.model_loading import body_of, embedding_table, plain_token_ids
from itl_hf.embedding.embedders.offloading import execution_device
from itl_hf.text import Tokens

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from itl_hf.embedding.embedders.gradients.head import Head
    from itl_hf.embedding.embedders.gradients.labels import Labels
    from itl_hf.embedding.embedders.gradients.layers import Layer

logger = logging.getLogger(__name__)
#: Tokens of the two rows.
LENGTHS = (9, 6)
#: Largest relative error of a gradient in float32 and in half precision.
ERROR, HALF_ERROR = 1e-3, 0.15
_Calls = dict[str, list[tuple[Any, Any]]]


def usable_layers(model: PreTrainedModel, head: Head, layers: Sequence[Layer], are_named: bool) -> tuple[Layer, ...]:
    """Returns those of `layers` whose gradients can be taken.

    Args:
        model (`PreTrainedModel`):
            A causal language model.
        head (`Head`):
            Computes the gradient of the loss.
        layers (`Sequence[Layer]`):
            Layers to try.
        are_named (`bool`):
            Whether a user named them, so that one that cannot be taken is an error.

    Raises:
        `TypeError`: If the model does not run on token ids alone, a token sees those after it, or no layer is left.
        `ValueError`: If a named layer cannot be taken.
    """
    name = type(model).__name__
    try:
        with frozen(model):
            _check_causality(model)
            reasons = _reasons_against(model, head, layers)
    except (RuntimeError, ValueError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        raise TypeError(f"gradients need a model that runs on token ids alone; {name} failed: {error}") from error
    usable = tuple(layer for layer in layers if layer.name not in reasons)
    if reasons and (usable or are_named):
        _report(name, reasons, are_named)
    if not usable:
        raise TypeError(
            f"gradients need linear layers that a gradient reaches; {name}: {next(iter(reasons.values()))}."
        )
    return usable


def hidden_states(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Runs a model without its head, and returns the input of the head, (B, T, d)."""
    parameters = inspect.signature(body_of(model).forward).parameters
    options = {"use_cache": False} if "use_cache" in parameters or "kwargs" in parameters else {}
    hidden: Tensor = body_of(model)(input_ids=input_ids, attention_mask=attention_mask, **options)[0]
    return hidden


def _check_causality(model: PreTrainedModel) -> None:
    ids = torch.tensor([plain_token_ids(model, 2 * LENGTHS[0])], device=execution_device(embedding_table(model)))
    start = LENGTHS[1]
    one, other = ids[:, : LENGTHS[0]].clone(), ids[:, LENGTHS[0] :].clone()
    other[:, :start] = one[:, :start]
    with torch.no_grad():
        states = [hidden_states(model, row, torch.ones_like(row))[0, :start].float() for row in (one, other)]
    change = (states[0] - states[1]).norm() / states[0].norm()
    if float(change) > (1e-3 if model.dtype in (torch.float32, torch.float64) else 0.05):
        raise TypeError(
            f"gradients need a causal language model: in {type(model).__name__} a token sees those after it, so that a "
            "loss on the next token means nothing. (For BERT and its relatives, is_decoder=True in the config makes "
            "them causal.) Use HiddenStates."
        )


def _reasons_against(model: PreTrainedModel, head: Head, layers: Sequence[Layer]) -> dict[str, str]:
    """Returns why layers cannot be taken, by their names."""
    numbers = plain_token_ids(model, sum(LENGTHS))
    rows = [numbers[: LENGTHS[0]], numbers[LENGTHS[0] :]]
    device = execution_device(embedding_table(model))
    head.check(torch.tensor(rows[:1], device=device))
    samples = _one_of_each_kind(layers)
    weights = [cast("Tensor", layer.module.weight) for layer in samples]
    with _differentiable(model, weights):
        with _call_recorder(layers) as calls:
            hidden, labels = _forward(model, rows, device)
        gradient = head.gradient(hidden, labels)[0]
        outputs = [output for pairs in calls.values() for _, output in pairs if isinstance(output, torch.Tensor)]
        gradients = _gradients(hidden, gradient, outputs)
        reasons = {layer.name: _reason(calls[layer.name], gradients, (len(rows), LENGTHS[0])) for layer in layers}
        shared = _shared_weights(model)
        reasons |= {
            one.name: "its weight is that of another module, too" for one in layers if id(one.module.weight) in shared
        }
        reasons = {name: reason for name, reason in reasons.items() if reason}
        own = {layer.name: _own_gradients(calls[layer.name], gradients, len(rows)) for layer in samples}
        calls.clear()
    tolerance = ERROR if model.dtype in (torch.float32, torch.float64) else HALF_ERROR
    with _differentiable(model, weights):
        for number, row in enumerate(rows):
            hidden, labels = _forward(model, [row], device)
            by_weight = _gradients(hidden, head.gradient(hidden, labels)[0], weights)
            for layer, weight in zip(samples, weights, strict=True):
                if layer.name not in reasons and not _agree(
                    layer, own[layer.name], number, by_weight[id(weight)], tolerance
                ):
                    reason = "its gradient is not that of its input and output (its weight is used elsewhere)"
                    reasons |= {other.name: reason for other in layers if _kind(other) == _kind(layer)}
    return reasons


def _forward(model: PreTrainedModel, rows: list[list[int]], device: torch.device) -> tuple[Tensor, Labels]:
    """Returns the last hidden states of rows, and their labels: every next token."""
    longest = max(map(len, rows))
    input_ids = torch.tensor([row + row[:1] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    hidden = hidden_states(model, input_ids, mask)
    return hidden, labels_of([Tokens([*row, row[0]], 1) for row in rows], "whole").to(hidden.device)


def _reason(calls: list[tuple[Any, Any]], gradients: dict[int, Tensor | None], size: tuple[int, int]) -> str:
    """Returns why a layer with these calls cannot be taken; empty if it can."""
    if not calls:
        return "it does not run on text"
    for values, output in calls:
        if not isinstance(output, torch.Tensor) or not isinstance(values, torch.Tensor):
            return "it does not return one tensor"
        if any(by_position(part, size) is None for part in (values, output)):
            return f"it works on a tensor of shape {tuple(values.shape)}, which is not one vector for each token"
    if all(gradients.get(id(output)) is None for _, output in calls):
        return "no gradient reaches it"
    return ""


def _own_gradients(calls: list[tuple[Any, Any]], gradients: dict[int, Tensor | None], rows: int) -> Tensor | None:
    """Returns the gradient of each row from inputs and gradients of outputs, (B, d_out, d_in)."""
    total: Tensor | None = None
    for values, output in calls:
        change = gradients.get(id(output)) if isinstance(output, torch.Tensor) else None
        if change is not None and isinstance(values, torch.Tensor):
            parts = [part.detach().reshape(rows, -1, part.shape[-1]).float() for part in (change, values)]
            product = parts[0].transpose(1, 2) @ parts[1] if parts[0].shape[1] == parts[1].shape[1] else None
            if product is not None:
                total = product if total is None else total + product
    return total


def _agree(layer: Layer, own: Tensor | None, number: int, exact: Tensor | None, tolerance: float) -> bool:
    if own is None or exact is None:
        return own is None and exact is None
    exact = exact.float().T if isinstance(layer.module, Conv1D) else exact.float()
    scale = own.norm(dim=(1, 2)).max().clamp_min(torch.finfo(torch.float32).tiny)
    return bool((own[number] - exact).norm() <= tolerance * scale)


def _gradients(hidden: Tensor, gradient: Tensor, inputs: Sequence[Tensor]) -> dict[int, Tensor | None]:
    graph_inputs = [one for one in inputs if one.requires_grad]
    if not graph_inputs:
        return {}
    results = torch.autograd.grad([hidden], graph_inputs, [gradient], allow_unused=True)
    return {id(one): result for one, result in zip(graph_inputs, results, strict=True)} | {
        id(one): None for one in inputs if not one.requires_grad
    }


@contextlib.contextmanager
def _call_recorder(layers: Sequence[Layer]) -> Iterator[_Calls]:
    """Collects input and output of every call of the layers."""
    calls: _Calls = {layer.name: [] for layer in layers}

    def recorder(name: str) -> Any:
        return lambda _module, args, kwargs, output: calls[name].append(
            (args[0] if args else next(iter(kwargs.values()), None), output)
        )

    handles = [layer.module.register_forward_hook(recorder(layer.name), with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _differentiable(model: PreTrainedModel, weights: Sequence[Tensor]) -> Iterator[None]:
    """Starts the graph at the embeddings and at some weights."""
    table = model.get_input_embeddings()
    handle = table.register_forward_hook(lambda _module, _args, output: start_of_graph(output))
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        handle.remove()
        for weight in weights:
            weight.requires_grad_(False)


def _one_of_each_kind(layers: Sequence[Layer]) -> list[Layer]:
    """Returns a layer of each name and shape whose weight can be differentiated (no 4-bit or offloaded ones)."""
    kinds: dict[tuple[str, int, int], Layer] = {}
    for layer in layers:
        weight = layer.module.weight
        if isinstance(weight, torch.Tensor) and weight.is_floating_point() and not weight.is_meta:
            kinds.setdefault(_kind(layer), layer)
    return list(kinds.values())


def _shared_weights(model: PreTrainedModel) -> set[int]:
    """Returns the ids of parameters that several modules have."""
    counts = collections.Counter(id(one) for module in model.modules() for one in module._parameters.values())
    return {number for number, count in counts.items() if count > 1}


def _kind(layer: Layer) -> tuple[str, int, int]:
    parts = [part for part in layer.name.split(".") if not part.isdigit()]
    return ".".join(parts), layer.inputs, layer.outputs


def _report(name: str, reasons: dict[str, str], are_named: bool) -> None:
    by_reason: dict[str, list[str]] = {}
    for layer, reason in reasons.items():
        by_reason.setdefault(reason, []).append(layer)
    lines = [f"{len(names)} of them (such as {names[0]}): {reason}" for reason, names in by_reason.items()]
    if are_named:
        raise ValueError(f"modules: {name} has layers whose gradients cannot be taken, {'; '.join(lines)}.")
    logger.warning("%s: layers whose gradients are not taken, %s.", name, "; ".join(lines))
