"""Per-example gradients of many linear layers, out of one backward pass for the whole batch.

Rows of a batch do not see each other, so the gradient of the summed losses with respect to a layer's output holds, row
by row, that of each row's own loss. A forward hook keeps what enters a layer, projected; a hook on its output takes the
gradient as it passes, projects it too, and adds the product to the row's sum. No gradient of a weight is ever formed:
a pass costs about two forward passes, plus the projections.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from itl_hf.embedding.embedders.gradients.adam import Exact

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from itl_hf.embedding.embedders.gradients.adam import AdamPreconditioner, Factors
    from itl_hf.embedding.embedders.gradients.layers import Layer
    from itl_hf.embedding.embedders.gradients.sketch import KroneckerSketch

_Shape = tuple[int, int, torch.device]


class Capture:
    """Hooks on the layers of a model, and the sums they make for the batch at hand.

    Args:
        model (`PreTrainedModel`):
            Whose input embeddings start the graph.
        layers (`Sequence[Layer]`):
            What to hook.
        sketch (`KroneckerSketch`):
            The projections.
        adam (`AdamPreconditioner`, *optional*):
            Rescales gradients before they are projected.

    Example:
        >>> with frozen(model), capture.attached():  # doctest: +SKIP
        ...     capture.begin(attention_mask)
        ...     hidden = model.base_model(input_ids, attention_mask=attention_mask).last_hidden_state
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
        self._cores: dict[_Shape, Tensor] = {}
        self._seen: set[str] = set()
        self._last: tuple[Tensor, int, str, Tensor] | None = None

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks for as long as the context lasts."""
        embeddings = self.model.get_input_embeddings()
        checkpointed = [module for module in self.model.modules() if _is_checkpointed(module)]
        handles = [embeddings.register_forward_hook(functools.partial(self._start, checkpointed))]
        for block in checkpointed:
            handles += [
                child.register_forward_pre_hook(functools.partial(_to_evaluation, block)) for child in block.children()
            ]
        for layer in self.layers:
            hook = functools.partial(self._entered, layer)
            handles.append(layer.module.register_forward_hook(hook, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._phase = "off"
            self._clear()

    def begin(self, attention_mask: Tensor, scale: float = 1.0) -> None:
        """Start a batch; the next forward pass is recorded.

        Args:
            attention_mask (`Tensor`):
                Shape (B, T), 1 at tokens and 0 at padding.
            scale (`float`, *optional*, defaults to 1):
                What the gradient sent back will have been multiplied by.
        """
        self._clear()
        self._scale = scale
        self._size = (attention_mask.shape[0], attention_mask.shape[1])
        inside = attention_mask.bool()[..., None]  # (B, T, 1)
        self._mask = None if bool(inside.all()) else inside
        self._phase = "forward"

    def pause(self) -> None:
        """The forward pass is over: what runs from here on is not recorded."""
        self._phase, self._last = "off", None

    def backward(self, hidden: Tensor, gradient: Tensor) -> None:
        """Send `gradient` (B, T, d) back from `hidden` (B, T, d) through the recorded pass."""
        self._phase = "backward"
        torch.autograd.backward([hidden], [gradient])
        self.pause()

    def features(self) -> Tensor:
        """The sketched gradient of each row, shape (B, D), at least float32, not normalised; ends the batch."""
        parts = [self.sketch.fold(core) / self._scale for core in self._cores.values()]
        self._clear()
        if not parts:
            raise ValueError("no gradient reached any of the hooked layers: the model does not use them.")
        return functools.reduce(lambda a, b: a + b.to(a.device), parts)

    def _start(self, checkpointed: Sequence[nn.Module], _module: nn.Module, _args: Any, output: Tensor) -> None:
        if self._phase != "forward":
            return
        output.requires_grad_()
        # Blocks checkpoint in training mode only; their first child puts them back before any dropout is reached.
        for block in checkpointed:
            block.training = True

    def _entered(self, layer: Layer, _module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Tensor) -> None:
        # Under reentrant checkpointing the forward pass has no graph and the layer is met again, with one, on the way
        # back; under the other kind it is met twice with a graph, and the first counts.
        recomputed = self._phase == "backward" and layer.name in self._seen
        if self._phase == "off" or recomputed or not output.requires_grad:
            return
        if self._phase == "forward":
            self._seen.add(layer.name)
        values = self._by_row(args[0] if args else next(iter(kwargs.values())), layer).detach()  # (B, T, d_in)
        rescaling = None if self.adam is None else self.adam.rescaling(layer)
        kept = values if isinstance(rescaling, Exact) else self._projected(layer, values, rescaling)
        cast("Any", output).register_hook(functools.partial(self._returned, layer, kept, rescaling))

    def _projected(self, layer: Layer, values: Tensor, rescaling: Factors | None) -> Tensor:
        """(B, T, k_in), padding zero; computed once for layers that read the very same tensor."""
        if rescaling is None and self._last is not None:
            source, version, group, projected = self._last
            same = source.data_ptr() == values.data_ptr() and source.shape == values.shape
            if same and version == values._version and group == layer.group:
                return projected
        scale = None if rescaling is None else rescaling.inputs.to(values)
        projected = self._inside(self.sketch.inputs(layer, values, scale))
        if rescaling is None:
            # The source is kept alive, so that its address stays its own.
            self._last = (values, values._version, layer.group, projected)
        return projected

    def _returned(self, layer: Layer, kept: Tensor, rescaling: Exact | Factors | None, gradient: Tensor) -> None:
        change = self._by_row(gradient, layer).detach()  # (B, T, d_out)
        if isinstance(rescaling, Exact):
            self._add(*self._rescaled(layer, self._inside(kept), self._inside(change), rescaling))
            return
        scale = None if rescaling is None else rescaling.outputs.to(change)
        self._add(self._inside(self.sketch.outputs(layer, change, scale)), self.sketch.columns(layer, kept))

    def _rescaled(self, layer: Layer, values: Tensor, change: Tensor, rescaling: Exact) -> tuple[Tensor, Tensor]:
        """Two factors of the core, (B, d_in, k_out) and (B, d_in, k_in), by way of the whole matrix."""
        whole = _wide(change).transpose(1, 2) @ _wide(values)  # (B, d_out, d_in)
        whole = rescaling(whole / self._scale) * self._scale
        left = self.sketch.outputs(layer, whole.transpose(1, 2))  # (B, d_in, k_out)
        identity = torch.eye(layer.inputs, dtype=whole.dtype, device=whole.device)
        right = self.sketch.columns(layer, self.sketch.inputs(layer, identity))  # (d_in, k_in)
        return left, right.expand(len(left), -1, -1)

    def _add(self, left: Tensor, right: Tensor) -> None:
        """Adds left' right, from (B, n, k_out) and (B, n, k_in), to the sum for cores of this shape."""
        left, right = _wide(left), _wide(right)
        shape = (left.shape[2], right.shape[2], left.device)
        if shape not in self._cores:
            self._cores[shape] = left.new_zeros(len(left), left.shape[2], right.shape[2])
        self._cores[shape].baddbmm_(left.transpose(1, 2), right)

    def _inside(self, values: Tensor) -> Tensor:
        # `where`, since a product with zero would let NaN through.
        return values if self._mask is None else torch.where(self._mask.to(values.device), values, 0.0)

    def _by_row(self, values: Tensor, layer: Layer) -> Tensor:
        if values.shape[:-1] == self._size:
            return values
        if values.dim() == 2 and len(values) == self._size[0] * self._size[1]:
            return values.view(*self._size, -1)
        raise ValueError(
            f"layer {layer.name!r} works on a tensor of shape {tuple(values.shape)}, from which the positions of "
            f"{self._size[0]} rows of {self._size[1]} cannot be told. Leave it out: name the layers to take "
            "with modules=."
        )


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No weight asks for a gradient and every module is in evaluation mode; both are put back, whatever happens."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = {module: module.training for module in model.modules()}
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
        for module, was in training.items():
            module.training = was


def _is_checkpointed(module: nn.Module) -> bool:
    # The switch of transformers' GradientCheckpointingLayer; models carry it too, but do not checkpoint themselves.
    return bool(getattr(module, "gradient_checkpointing", False)) and not hasattr(module, "config_class")


def _to_evaluation(block: nn.Module, _child: nn.Module, _args: Any) -> None:
    block.training = False


def _wide(values: Tensor) -> Tensor:
    """At least float32: sums over positions are taken in it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
