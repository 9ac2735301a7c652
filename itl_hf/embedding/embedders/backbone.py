"""Hidden layers of a transformers model, and nothing computed beyond the last one asked for.

Hooks on the blocks collect the layers in one pass, and the last of them ends it there, so the blocks after it, the
final norm and the LM head never run. The convention is that of `output_hidden_states=True`: 0 the embeddings, k the
output of block k, the last one after the final norm. Because architectures differ, the first use compares the early
exit with that tuple on a few tokens; where they disagree (or no block list is found) the tuple itself is used, at full
cost, and the log says so.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from itl_hf.embedding.embedders.model_loading import without_peft
from itl_hf.embedding.embedders.packing import check_packing, pack, probe, unpack
from itl_hf.embedding.embedders.weights_hash import WeightsIdentity

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
Each = Callable[["Tensor"], "Tensor"]


class _Reached(Exception):
    """Ends a forward pass at the last layer that was asked for."""


class Backbone:
    """A model without its head, stopped at a layer.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Used as it is: not copied, not cast, not moved. Live adapters count. Of an encoder-decoder model, the
            encoder.
        packing (`bool`, *optional*, defaults to `False`):
            Run batches without padding; see `itl_hf.embedding.embedders.packing`.
        compile (`bool`, *optional*, defaults to `False`):
            Run the blocks through `torch.compile`. They are put back after each pass.

    Raises:
        `TypeError`: Not a model of transformers, or an adapter of virtual tokens.
        `ValueError`: Packing or compiling is asked of a model that cannot.

    Example:
        >>> backbone = Backbone(model)  # doctest: +SKIP
        >>> middle, late = backbone.hidden([15, 22], input_ids, attention_mask)  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, *, packing: bool = False, compile: bool = False) -> None:
        self.model = _without_head(model)
        config = self.model.config.get_text_config()
        declared = getattr(config, "num_hidden_layers", None)
        self.blocks = _blocks(self.model, declared)
        self.num_layers = int(declared if declared is not None else len(self.blocks or ()))
        self.dimension = int(config.hidden_size)
        self.packing = packing
        self._attention = getattr(config, "_attn_implementation", None)
        self._weights = WeightsIdentity(self.model)
        self._early_exit: bool | None = None  # unknown until the first pass
        if packing:
            check_packing(self.model)
        if compile and self.blocks is None:
            raise ValueError(f"compile=True: no list of blocks found in {type(self.model).__name__}. Leave it out.")
        # Block by block: they share one compiled graph, and hooks stay outside of it.
        self._compiled = [torch.compile(block.forward, dynamic=True) for block in self.blocks or () if compile]

    @torch.no_grad()
    def hidden(
        self, layers: Sequence[int], input_ids: Tensor, attention_mask: Tensor, each: Each = lambda hidden: hidden
    ) -> list[Tensor]:
        """Hidden states of `layers` in evaluation mode; training mode is put back afterwards.

        Args:
            layers (`Sequence[int]`):
                Each 0 to `num_layers`.
            input_ids (`Tensor`):
                Shape (B, T), right-padded.
            attention_mask (`Tensor`):
                Shape (B, T), 1 at tokens and 0 at padding.
            each (`Callable[[Tensor], Tensor]`, *optional*):
                Applied to a layer's (B, T, d) as soon as it is there, so that several layers take the memory of what it
                returns.

        Returns:
            `list[Tensor]`: for each of `layers` what `each` made of it; without it shape (B, T, d), the model's dtype
                and device.

        Raises:
            `ValueError`: With `packing=True`, the model's attention mixes rows.
        """
        with evaluation_mode(self.model):
            if self._early_exit is None:
                # One short row without padding is enough to tell the conventions apart.
                start = input_ids[:1, : int(attention_mask[0].sum().clamp(max=8))]
                self._early_exit = self._agrees(layers, {"input_ids": start, "attention_mask": torch.ones_like(start)})
                if self.packing:
                    self._check_packed()
            run = self._stopped if self._early_exit else self._full
            if not self.packing:
                return run(layers, {"input_ids": input_ids, "attention_mask": attention_mask}, each)
            packed = pack(input_ids, attention_mask, self._attention)
            return run(layers, packed, lambda hidden: each(unpack(hidden, attention_mask)))

    def _agrees(self, layers: Sequence[int], inputs: dict[str, Any]) -> bool:
        name = type(self.model).__name__
        if self.blocks is None:
            logger.warning("%s: no list of blocks found; every pass runs all layers.", name)
            return False
        expected = self._full(layers, inputs)
        try:
            found = self._stopped(layers, inputs)
        except RuntimeError as error:
            logger.warning("%s: stopping early failed (%s).", name, error)
            return False
        differing = [layer for layer, *pair in zip(layers, found, expected, strict=True) if not _same(*pair)]
        if differing:
            logger.warning(
                "%s: the output of block %d is not hidden_states[%d]; every pass runs all layers.",
                name,
                *differing[:1] * 2,
            )
        return not differing

    def _check_packed(self) -> None:
        table = cast("nn.Embedding", self.model.get_input_embeddings())
        ids, mask = probe(table.num_embeddings, table.weight.device)
        expected = self._forward({"input_ids": ids, "attention_mask": mask}).last_hidden_state
        packed = self._forward(pack(ids, mask, self._attention)).last_hidden_state
        second = mask[1].bool()  # the row that would see the one before it
        expected, found = expected[1, second].float(), unpack(packed, mask)[1, second].float()
        # Half precision stays an order of magnitude below this, another row one above.
        if not float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).mean()) < 0.05:
            raise ValueError(
                f"packing=True: {type(self.model).__name__} with attn_implementation={self._attention!r} lets packed "
                'rows see each other. Load it with attn_implementation="flash_attention_2", or leave packing out.'
            )

    def _full(self, layers: Sequence[int], inputs: dict[str, Any], each: Each = lambda hidden: hidden) -> list[Tensor]:
        states = self._forward(inputs, output_hidden_states=True).hidden_states
        return [each(states[layer]) for layer in layers]

    def _stopped(
        self, layers: Sequence[int], inputs: dict[str, Any], each: Each = lambda hidden: hidden
    ) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        last = max(layers)
        handles = [self._collect(layer, found, each, layer == last) for layer in layers if layer < self.num_layers]
        try:
            with self._compiled_blocks():
                output = self._forward(inputs)
            if last == self.num_layers:
                found[last] = each(output.last_hidden_state)
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if missing := set(layers) - set(found):
            raise RuntimeError(f"block {min(missing)} did not run")
        return [found[layer] for layer in layers]

    def _collect(self, layer: int, found: dict[int, Tensor], each: Each, last: bool) -> Any:
        """A hook that keeps a layer, and ends the pass if it is the last one."""

        def keep(hidden: Tensor) -> None:
            found[layer] = each(hidden)
            if last:
                raise _Reached

        blocks = cast("nn.ModuleList", self.blocks)
        if layer == 0:
            before = lambda _module, args, kwargs: keep(args[0] if args else kwargs["hidden_states"])
            return blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        after = lambda _module, _args, output: keep(output[0] if isinstance(output, tuple | list) else output)
        return blocks[layer - 1].register_forward_hook(after)

    @contextlib.contextmanager
    def _compiled_blocks(self) -> Iterator[None]:
        pairs = list(zip(self.blocks or (), self._compiled, strict=False))
        own = [block.__dict__.get("forward") for block, _ in pairs]  # accelerate's hooks put one there
        for block, compiled in pairs:
            block.__dict__["forward"] = compiled
        try:
            yield
        finally:
            for (block, _), forward in zip(pairs, own, strict=True):
                if forward is None:
                    del block.__dict__["forward"]
                else:
                    block.__dict__["forward"] = forward

    def _forward(self, inputs: dict[str, Any], **options: Any) -> Any:
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            options["use_cache"] = False
        return self.model(**inputs, return_dict=True, **options)

    def identity(self, layer: int) -> str:
        """Hash of the configuration and of every weight that `layer` depends on; see `WeightsIdentity`."""
        later = self._later_prefixes(layer)
        # A pooler may even be freshly random at each load.
        return self._weights(lambda name: "pooler" not in name.split(".") and not name.startswith(later))

    def _later_prefixes(self, layer: int) -> tuple[str, ...]:
        if self.blocks is None:
            return ()
        later = {id(block) for block in self.blocks[layer:]}
        return tuple(f"{name}." for name, module in self.model.named_modules() if id(module) in later)


def _same(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(
        found.float(), expected.float(), rtol=1e-2, atol=1e-4, equal_nan=True
    )


def _without_head(model: nn.Module) -> PreTrainedModel:
    model = without_peft(model, "hidden states leave out")
    if getattr(model.config, "is_encoder_decoder", False):
        return cast("PreTrainedModel", model.get_encoder())
    return cast("PreTrainedModel", model.base_model)


def _blocks(model: nn.Module, count: int | None) -> nn.ModuleList | None:
    """The outermost list of `count` modules of one kind."""
    lists = [
        (name.count("."), module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) > 0 and count in (None, len(module))
    ]
    return min(lists, key=lambda pair: pair[0], default=(0, None))[1]


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode, and back as they were."""
    # Module by module: a user may have frozen a few of them in evaluation mode inside a model in training.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
