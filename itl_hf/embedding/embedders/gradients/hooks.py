"""Per-example gradients of many linear layers, from one backward pass for the whole batch.

Rows of a batch do not influence each other, so the gradient of the summed losses with respect to a layer's output
holds, row by row, that of each row's own loss. A forward hook projects and stores the input of a layer; a hook on its
output receives the gradient, projects it too, and adds the product to the row's sum. No gradient of a weight is ever
formed: a pass costs about two forward passes, plus the projections.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from itl_hf.embedding.embedders.gradients.adam import Exact
from itl_hf.embedding.embedders.gradients.head import widen
from itl_hf.embedding.embedders.numerics import own_precision

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from itl_hf.embedding.embedders.gradients.adam import AdamPreconditioner, Factors
    from itl_hf.embedding.embedders.gradients.layers import Layer
    from itl_hf.embedding.embedders.gradients.sketch import KroneckerSketch

_CoreKey = tuple[int, int, torch.device]


class Capture:
    """Registers hooks on the layers of a model, which sum up the sketched gradients of the current batch.

    Args:
        model (`PreTrainedModel`):
            The model; the graph of the backward pass starts at its input embeddings.
        layers (`Sequence[Layer]`):
            The layers whose gradients are taken.
        sketch (`KroneckerSketch`):
            Projects inputs and gradients.
        adam (`AdamPreconditioner`, *optional*):
            Rescales gradients before they are projected.

    Example:
        >>> with frozen(model), capture.attached():  # doctest: +SKIP
        ...     capture.begin(attention_mask)
        ...     hidden = model.base_model(input_ids, attention_mask=mask).last_hidden_state
        ...     capture.backward(hidden, gradient_of_the_losses)
        ...     features = capture.features()  # (B, D)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layers: Sequence[Layer],
        sketch: KroneckerSketch,
        adam: AdamPreconditioner | None = None,
    ) -> None:
        self.model = model
        self.layers = layers
        self.sketch = sketch
        self.adam = adam
        self._phase: Literal["off", "forward", "backward"] = "off"
        self._clear()

    def _clear(self) -> None:
        self._mask: Tensor | None = None
        self._size = (0, 0)
        self._scale = 1.0
        self._cores: dict[_CoreKey, Tensor] = {}
        self._recorded_layers: set[str] = set()
        #: Input of the last layer, its version and the layer's group, and its projection.
        self._last: tuple[Tensor, int, str, Tensor] | None = None

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Registers the hooks for as long as the context lasts."""
        embeddings = self.model.get_input_embeddings()
        checkpoint_blocks = [module for module in self.model.modules() if _is_checkpointed(module)]
        handles = [embeddings.register_forward_hook(functools.partial(self._start_graph, checkpoint_blocks))]
        for block in checkpoint_blocks:
            handles += [
                child.register_forward_pre_hook(functools.partial(_to_evaluation, block)) for child in block.children()
            ]
        for layer in self.layers:
            hook = functools.partial(self._record_input, layer)
            handles.append(layer.module.register_forward_hook(hook, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._phase = "off"
            self._clear()

    def begin(self, attention_mask: Tensor, scale: float = 1.0) -> None:
        """Starts a batch; the next forward pass is recorded.

        Args:
            attention_mask (`Tensor`):
                Shape (B, T), 1 at tokens and 0 at padding.
            scale (`float`, *optional*, defaults to 1):
                Factor of the gradient that `backward` will be called with.
        """
        self._clear()
        self._scale = scale
        self._size = (attention_mask.shape[0], attention_mask.shape[1])
        inside = attention_mask.bool()[..., None]  # (B, T, 1)
        self._mask = None if bool(inside.all()) else inside
        self._phase = "forward"

    def pause(self) -> None:
        """Ends the forward pass: what runs from here on is not recorded."""
        self._phase, self._last = "off", None

    def backward(self, hidden: Tensor, gradient: Tensor) -> None:
        """Backpropagates `gradient` (B, T, d) from `hidden` (B, T, d) through the recorded pass."""
        self._phase = "backward"
        torch.autograd.backward([hidden], [gradient])
        self.pause()

    def features(self) -> Tensor:
        """Returns the sketched gradient of each row, (B, D), at least float32, not normalised; ends the batch."""
        parts = [self.sketch.fold(core) / self._scale for core in self._cores.values()]
        self._clear()
        if not parts:
            raise ValueError("no gradient reached any of the hooked layers: the model does not use them.")
        return functools.reduce(lambda a, b: a + b.to(a.device), parts)

    def _start_graph(
        self, checkpoint_blocks: Sequence[nn.Module], _module: nn.Module, _args: Any, output: Tensor
    ) -> Tensor | None:
        if self._phase != "forward":
            return None
        # Blocks checkpoint in training mode only; a hook of their first child ends it before any dropout is reached.
        for block in checkpoint_blocks:
            block.training = True
        return start_of_graph(output)

    def _record_input(
        self, layer: Layer, _module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Tensor
    ) -> None:
        # Under reentrant checkpointing the forward pass has no graph, and the layer runs again, with one, during the
        # backward pass; under the other kind it runs twice with a graph, and the first run counts.
        is_repetition = self._phase == "backward" and layer.name in self._recorded_layers
        if self._phase == "off" or is_repetition or not output.requires_grad:
            return
        if self._phase == "forward":
            self._recorded_layers.add(layer.name)
        values = self._by_row(args[0] if args else next(iter(kwargs.values())), layer).detach()  # (B, T, d_in)
        rescaling = None if self.adam is None else self.adam.rescaling(layer)
        inputs = values if isinstance(rescaling, Exact) else self._project_inputs(layer, values, rescaling)
        cast("Any", output).register_hook(functools.partial(self._add_gradient, layer, inputs, rescaling))

    def _project_inputs(self, layer: Layer, values: Tensor, rescaling: Factors | None) -> Tensor:
        """Returns (B, T, k_in), zero at padding; computed once for layers that read the very same tensor."""
        if rescaling is None and self._last is not None:
            source, version, group, projection = self._last
            same = source.data_ptr() == values.data_ptr() and source.shape == values.shape
            if same and version == values._version and group == layer.group:
                return projection
        scale = None if rescaling is None else rescaling.inputs.to(values)
        projection = self._zero_padding(self.sketch.inputs(layer, values, scale))
        if rescaling is None:
            # The input is kept alive, so that no other tensor gets its address.
            self._last = (values, values._version, layer.group, projection)
        return projection

    def _add_gradient(self, layer: Layer, inputs: Tensor, rescaling: Exact | Factors | None, gradient: Tensor) -> None:
        change = self._by_row(gradient, layer).detach()  # (B, T, d_out)
        if isinstance(rescaling, Exact):
            self._add(*self._rescale(layer, self._zero_padding(inputs), self._zero_padding(change), rescaling))
            return
        scale = None if rescaling is None else rescaling.outputs.to(change)
        self._add(self._zero_padding(self.sketch.outputs(layer, change, scale)), self.sketch.columns(layer, inputs))

    def _rescale(self, layer: Layer, values: Tensor, change: Tensor, rescaling: Exact) -> tuple[Tensor, Tensor]:
        """Returns two factors of the core, (B, d_in, k_out) and (B, d_in, k_in), computed from the whole gradient."""
        whole = widen(change).transpose(1, 2) @ widen(values)  # (B, d_out, d_in)
        whole = rescaling(whole / self._scale) * self._scale
        left = self.sketch.outputs(layer, whole.transpose(1, 2))  # (B, d_in, k_out)
        identity = torch.eye(layer.inputs, dtype=whole.dtype, device=whole.device)
        right = self.sketch.columns(layer, self.sketch.inputs(layer, identity))  # (d_in, k_in)
        return left, right.expand(len(left), -1, -1)

    def _add(self, left: Tensor, right: Tensor) -> None:
        """Adds left' right, of (B, n, k_out) and (B, n, k_in), to the sum of the cores of this shape."""
        left, right = widen(left), widen(right)
        shape = (left.shape[2], right.shape[2], left.device)
        if shape not in self._cores:
            self._cores[shape] = left.new_zeros(len(left), left.shape[2], right.shape[2])
        self._cores[shape].baddbmm_(left.transpose(1, 2), right)

    def _zero_padding(self, values: Tensor) -> Tensor:
        # `where`, since NaN times zero is NaN.
        return values if self._mask is None else torch.where(self._mask.to(values.device), values, 0.0)

    def _by_row(self, values: Tensor, layer: Layer) -> Tensor:
        by_row = by_position(values, self._size)
        if by_row is not None:
            return by_row
        raise ValueError(
            f"layer {layer.name!r} works on a tensor of shape {tuple(values.shape)}, which does not have the "
            f"positions of {self._size[0]} rows of {self._size[1]} tokens. Leave it out: name the layers to take "
            "with modules=."
        )


def start_of_graph(embeddings: Tensor) -> Tensor:
    """Returns embeddings that a graph of gradients starts at; a copy, since CTRL and BLT change them in place."""
    return embeddings.detach().requires_grad_().clone()


def by_position(values: Tensor, size: tuple[int, int]) -> Tensor | None:
    """Returns a layer's input or output as (B, T, d); `None` if it does not have the positions of B rows of T tokens.

    Mixtures of experts flatten rows and positions; the attention of DeepSeek (MLA) has an axis for one head.
    """
    is_flat = values.dim() == 2 and len(values) == size[0] * size[1]
    axes = [length for length in values.shape[:-1] if length != 1]
    if is_flat or (values.dim() > 1 and axes == [length for length in size if length != 1]):
        return values.reshape(*size, values.shape[-1])
    return None


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Turns off gradients of weights and puts every module into evaluation mode; restores both, whatever happens.

    The model computes in the type of its weights (`own_precision`).
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = {module: module.training for module in model.modules()}
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        with torch.inference_mode(False), torch.enable_grad(), own_precision():
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module, mode in training.items():
            module.training = mode


def _is_checkpointed(module: nn.Module) -> bool:
    # The attribute of transformers' GradientCheckpointingLayer; models have it too, but do not checkpoint themselves.
    return bool(getattr(module, "gradient_checkpointing", False)) and not hasattr(module, "config_class")


def _to_evaluation(block: nn.Module, _child: nn.Module, _args: Any) -> None:
    block.training = False
