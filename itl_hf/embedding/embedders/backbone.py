"""Hidden layers of a transformers model, without computing anything after the last requested one.

Hooks on the blocks collect the layers in one pass, and the hook of the last requested layer ends the pass, so the
blocks after it, the final norm and the LM head never run. Layers are numbered as in `output_hidden_states=True`: 0 is
the embeddings, k the output of block k, the last one after the final norm. Because architectures differ, the first use
compares the early exit with that tuple on a few tokens. Where they disagree (or no list of blocks is found) the tuple
itself is used, at full cost, and a warning is logged.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from itl_hf.embedding.embedders.model_loading import body_of, embedding_table, without_peft
from itl_hf.embedding.embedders.numerics import own_precision
from itl_hf.embedding.embedders.offloading import execution_device
from itl_hf.embedding.embedders.packing import check_packing, pack, probe, unpack
from itl_hf.embedding.embedders.weights_hash import WeightsHash

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
Transform = Callable[["Tensor"], "Tensor"]


class _EndOfPass(Exception):
    """Ends a forward pass at the last requested layer."""


class Backbone:
    """A model without its head, which stops at the last requested layer.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Used as it is, with its active adapters: not copied, not cast, not moved. Of an encoder-decoder model, the
            encoder is used.
        packing (`bool`, *optional*, defaults to `False`):
            Whether to run batches without padding; see `itl_hf.embedding.embedders.packing`.
        compile (`bool`, *optional*, defaults to `False`):
            Whether to run the blocks through `torch.compile`. They are restored after each pass.

    Raises:
        `TypeError`: If `model` is not a model of transformers, or has an adapter that works through virtual tokens.
        `ValueError`: If the model cannot be packed or compiled.

    Example:
        >>> backbone = Backbone(model)  # doctest: +SKIP
        >>> middle, late = backbone.hidden([15, 22], input_ids, attention_mask)  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, *, packing: bool = False, compile: bool = False) -> None:
        self.model = _without_head(model)
        config = self.model.config.get_text_config()
        config_layers = getattr(config, "num_hidden_layers", None)
        self.blocks = _blocks(self.model, config_layers)
        self.num_layers = int(config_layers if config_layers is not None else len(self.blocks or ()))
        if not hasattr(config, "hidden_size"):
            raise TypeError(
                f"hidden states need a model of one width; the config of {type(model).__name__} has no hidden_size."
            )
        self.dimension = int(config.hidden_size)
        #: The last layer of OPT-350m is projected to the width of its word embeddings.
        self.last_dimension = _output_width(self.model, self.dimension)
        self._main_stream = getattr(config, "altup_active_idx", None)
        self._flat_streams = getattr(config, "hc_count", None)
        self.packing = packing
        self._attention = getattr(config, "_attn_implementation", None)
        self._weights_hash = WeightsHash(self.model)
        self._early_exit: bool | None = None  # unknown until the first pass
        if packing:
            check_packing(self.model)
        if compile and self.blocks is None:
            raise ValueError(f"compile=True: no list of blocks found in {type(self.model).__name__}. Leave it out.")
        # Block by block: they share one compiled graph, and hooks stay outside of it.
        self._compiled_forwards = [torch.compile(block.forward, dynamic=True) for block in self.blocks or () if compile]

    @torch.no_grad()
    def hidden(
        self,
        layers: Sequence[int],
        input_ids: Tensor,
        attention_mask: Tensor,
        transform: Transform = lambda hidden: hidden,
    ) -> list[Tensor]:
        """Computes the hidden states of `layers` in evaluation mode, and restores training mode afterwards.

        Args:
            layers (`Sequence[int]`):
                Each 0 to `num_layers`.
            input_ids (`Tensor`):
                Shape (B, T), right-padded.
            attention_mask (`Tensor`):
                Shape (B, T), 1 at tokens and 0 at padding.
            transform (`Callable[[Tensor], Tensor]`, *optional*):
                Applied to a layer's (B, T, d) as soon as it is computed, so that only the results of several layers are
                in memory together.

        Returns:
            `list[Tensor]`: For each of `layers` the result of `transform`; without it shape (B, T, d), of the model's
                dtype and on its device.

        Raises:
            `ValueError`: If `packing=True` and the model's attention mixes rows, or a layer has fewer positions than
                tokens.
        """
        whole_transform, length = transform, input_ids.shape[1]
        transform = lambda hidden: whole_transform(self._of_tokens(self._main_part(hidden), length))
        with evaluation_mode(self.model):
            if self._early_exit is None:
                # One short row without padding is enough to compare the numbering of layers.
                start = input_ids[:1, : int(attention_mask[0].sum().clamp(max=8))]
                inputs = {"input_ids": start, "attention_mask": torch.ones_like(start)}
                self._early_exit = self._can_exit_early(layers, inputs)
                if self.packing:
                    self._check_that_packing_separates_rows()
            run = self._run_to_last_layer if self._early_exit else self._run_all_layers
            if not self.packing:
                return run(layers, {"input_ids": input_ids, "attention_mask": attention_mask}, transform)
            inputs = pack(input_ids, attention_mask, self._attention)
            return run(layers, inputs, lambda hidden: transform(unpack(self._main_part(hidden), attention_mask)))

    def width(self, layer: int) -> int:
        """Returns the number of dimensions of the hidden states of a layer."""
        return self.last_dimension if layer == self.num_layers else self.dimension

    def _main_part(self, hidden: Tensor) -> Tensor:
        """Returns (B, T, d) hidden states where a model has several streams of them.

        Of Gemma 3n (AltUp), (streams, B, T, d), one is the main stream; those of DeepSeek V4 (hyper-connections),
        (B, T, streams, d) or (B, T, streams * d), have equal rank and are averaged.
        """
        if self._flat_streams and hidden.shape[-1] == self._flat_streams * self.dimension:
            return hidden.view(*hidden.shape[:-1], self._flat_streams, self.dimension).mean(-2)
        if hidden.dim() != 4:
            return hidden
        return hidden.mean(2) if self._main_stream is None else hidden[self._main_stream]

    def _of_tokens(self, hidden: Tensor, length: int) -> Tensor:
        """Returns (B, `length`, d) of hidden states: some models fill up rows to a multiple of a block of tokens.

        Raises:
            `ValueError`: If there are fewer positions than tokens, as in the later blocks of Funnel.
        """
        if hidden.shape[1] < length:
            raise ValueError(
                f"{type(self.model).__name__} has {hidden.shape[1]} hidden states for {length} tokens in the layer "
                "asked for, since it merges tokens. Choose an earlier layer, such as layer=1."
            )
        return hidden[:, :length]

    def _can_exit_early(self, layers: Sequence[int], inputs: dict[str, Any]) -> bool:
        name = type(self.model).__name__
        if self.blocks is None:
            logger.warning("%s: no list of blocks found; every pass runs all layers.", name)
            return False
        references = self._run_all_layers(layers, inputs)
        try:
            results = self._run_to_last_layer(layers, inputs)
        except (RuntimeError, AttributeError) as error:
            logger.warning("%s: stopping early failed (%s).", name, error)
            return False
        mismatches = [layer for layer, *pair in zip(layers, results, references, strict=True) if not _close(*pair)]
        if mismatches:
            logger.warning(
                "%s: the output of block %d is not hidden_states[%d]; every pass runs all layers.",
                name,
                *mismatches[:1] * 2,
            )
        return not mismatches

    def _check_that_packing_separates_rows(self) -> None:
        table = embedding_table(self.model)
        ids, mask = probe(table.num_embeddings, execution_device(table))
        positions = mask[1].bool()  # of the second row, which would see the one before it
        alone = {"input_ids": ids[1:, positions], "attention_mask": mask[1:, positions]}
        try:
            # Alone rather than beside padding, which changes rows in some models.
            reference = self._forward(alone).last_hidden_state[0].float()
            packed_hidden = self._forward(pack(ids, mask, self._attention)).last_hidden_state
            result = unpack(packed_hidden, mask)[1, positions].float()
        except (RuntimeError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(
                f"packing=True: {type(self.model).__name__} does not run on packed rows ({error}). Leave packing out."
            ) from error
        # The error of half precision is a tenth of this bound, the influence of another row ten times the bound.
        if not float(((result - reference).norm(dim=-1) / reference.norm(dim=-1)).mean()) < 0.05:
            raise ValueError(
                f"packing=True: {type(self.model).__name__} with attn_implementation={self._attention!r} lets packed "
                'rows influence each other. Load it with attn_implementation="flash_attention_2", or leave packing out.'
            )

    def _run_all_layers(
        self, layers: Sequence[int], inputs: dict[str, Any], transform: Transform = lambda hidden: hidden
    ) -> list[Tensor]:
        states = self._forward(inputs, output_hidden_states=True).hidden_states
        # PEGASUS-X puts the states of its global tokens beside those of the row.
        states = [state[0] if isinstance(state, tuple) else state for state in states]
        # Mllama leaves out blocks that attend to images where there are none, so that its tuple is shorter.
        return [transform(states[min(layer, len(states) - 1)]) for layer in layers]

    def _run_to_last_layer(
        self, layers: Sequence[int], inputs: dict[str, Any], transform: Transform = lambda hidden: hidden
    ) -> list[Tensor]:
        results: dict[int, Tensor] = {}
        last = max(layers)
        handles = [
            self._register_hook(layer, results, transform, layer == last) for layer in layers if layer < self.num_layers
        ]
        try:
            with self._compiled_blocks() if self._compiled_forwards else contextlib.nullcontext():
                output = self._forward(inputs)
            if last == self.num_layers:
                results[last] = transform(output.last_hidden_state)
        except _EndOfPass:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if missing := set(layers) - set(results):
            raise RuntimeError(f"block {min(missing)} did not run")
        return [results[layer] for layer in layers]

    def _register_hook(self, layer: int, results: dict[int, Tensor], transform: Transform, is_last: bool) -> Any:
        """Registers a hook that stores a layer's result, and ends the pass if it is the last layer."""

        def store(hidden: Tensor) -> None:
            results[layer] = transform(hidden)
            if is_last:
                raise _EndOfPass

        blocks = cast("nn.ModuleList", self.blocks)
        if layer == 0:
            before = lambda _module, args, kwargs: store(args[0] if args else kwargs["hidden_states"])
            return blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        after = lambda _module, _args, output: store(output[0] if isinstance(output, tuple | list) else output)
        return blocks[layer - 1].register_forward_hook(after)

    @contextlib.contextmanager
    def _compiled_blocks(self) -> Iterator[None]:
        """Replaces the blocks' `forward` by the compiled ones for as long as the context lasts."""
        pairs = list(zip(self.blocks or (), self._compiled_forwards, strict=False))
        originals = [block.__dict__.get("forward") for block, _ in pairs]  # accelerate's hooks put one there
        for block, compiled in pairs:
            block.__dict__["forward"] = compiled
        try:
            yield
        finally:
            for (block, _), forward in zip(pairs, originals, strict=True):
                if forward is None:
                    del block.__dict__["forward"]
                else:
                    block.__dict__["forward"] = forward

    def _forward(self, inputs: dict[str, Any], **options: Any) -> Any:
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            options["use_cache"] = False
        return self.model(**inputs, return_dict=True, **options)

    def weights_hash(self, layer: int) -> str:
        """Returns a hash of the configuration and of every weight that `layer` depends on; see `WeightsHash`."""
        later_blocks = {id(block) for block in (self.blocks or ())[layer:]}
        prefixes = tuple(f"{name}." for name, module in self.model.named_modules() if id(module) in later_blocks)
        # A pooler is left out as well: it may have new random weights at each load.
        return self._weights_hash(lambda name: "pooler" not in name.split(".") and not name.startswith(prefixes))


def _close(result: Tensor, reference: Tensor) -> bool:
    return result.shape == reference.shape and torch.allclose(
        result.float(), reference.float(), rtol=1e-2, atol=1e-4, equal_nan=True
    )


def _without_head(model: nn.Module) -> PreTrainedModel:
    model = without_peft(model, "hidden states leave out")
    if getattr(model.config, "is_encoder_decoder", False):
        encoder = model.get_encoder()
        if not hasattr(encoder, "config"):
            raise TypeError(
                f"{type(encoder).__name__} has no config: the encoder of this model cannot be used by itself."
            )
        return cast("PreTrainedModel", encoder)
    return body_of(model)


def _output_width(model: nn.Module, width: int) -> int:
    projection = next((module for name, module in model.named_modules() if name.endswith("project_out")), None)
    return int(getattr(projection, "out_features", width))


def _blocks(model: nn.Module, count: int | None) -> nn.ModuleList | None:
    """Returns the outermost list of `count` modules, or of any number of them if `count` is `None`.

    The part that reads token ids is searched first: the tower for images of a model may have as many blocks.
    """
    for part in (_text_part(model), model):
        lists = [
            (name.count("."), module)
            for name, module in part.named_modules()
            if isinstance(module, torch.nn.ModuleList) and len(module) > 0 and count in (None, len(module))
        ]
        if lists:
            return min(lists, key=lambda pair: pair[0])[1]
    return None


def _text_part(model: nn.Module) -> nn.Module:
    """Returns the innermost model inside `model` that holds its table of input embeddings."""
    try:
        table = embedding_table(cast("PreTrainedModel", model))
    except TypeError:
        return model
    parts = [part for part in model.modules() if isinstance(part, transformers.PreTrainedModel)]
    owners = [part for part in parts if any(module is table for module in part.modules())]
    return min(owners, key=lambda part: sum(1 for _ in part.modules()), default=model)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts all modules into evaluation mode, and back into the mode that each was in; see also `own_precision`."""
    # Module by module: a user may have frozen a few of them in evaluation mode inside a model in training.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with own_precision():
            yield
    finally:
        for module in training:
            module.training = True
