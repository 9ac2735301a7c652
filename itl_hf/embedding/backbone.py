"""One hidden layer of a transformers model, and nothing computed beyond it.

A hook on the block asked for ends the forward pass there, so the blocks after it, the final norm and the LM head never
run. The convention is that of `output_hidden_states=True`: 0 the embeddings, k the output of block k, the last one
after the final norm. Because architectures differ, the first use compares the early exit with that tuple on a few
tokens; where they disagree (or no block list is found) the tuple itself is used, at full cost, and the log says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

#: Config entries that change during training or loading without changing any hidden state.
_VOLATILE = frozenset(
    {
        "_name_or_path",
        "_commit_hash",
        "architectures",
        "dtype",
        "torch_dtype",
        "output_attentions",
        "output_hidden_states",
    }
    | {"transformers_version", "use_cache", "bos_token_id", "eos_token_id", "id2label", "label2id", "problem_type"}
)


class _Reached(Exception):
    """Carries the hidden states out of a forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class Backbone:
    """A model without its head, stopped at a layer.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Used as it is: not copied, not cast, not moved. Live adapters count.

    Example:
        >>> hidden = Backbone(model).hidden(22, input_ids, attention_mask)  # (B, T, d)
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = _without_head(model)
        config = self.model.config.get_text_config()
        declared = getattr(config, "num_hidden_layers", None)
        self.blocks = _blocks(self.model, declared)
        self.num_layers = int(declared if declared is not None else len(self.blocks or ()))
        self.dimension = int(config.hidden_size)
        self._early_exit: bool | None = None  # unknown until the first pass

    @torch.no_grad()
    def hidden(self, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states of `layer` in evaluation mode; training mode is put back afterwards.

        Args:
            layer (`int`):
                0 to `num_layers`.
            input_ids (`Tensor`):
                Shape (B, T), right-padded.
            attention_mask (`Tensor`):
                Shape (B, T), 1 at tokens and 0 at padding.

        Returns:
            `Tensor`: shape (B, T, d), the model's dtype and device.
        """
        with _evaluation_mode(self.model):
            if self._early_exit is None:
                # One short row without padding is enough to tell the conventions apart.
                self._early_exit = self._agrees(layer, input_ids[:1, : int(attention_mask[0].sum().clamp(max=8))])
            run = self._stopped if self._early_exit else self._full
            return run(layer, input_ids, attention_mask)

    def _agrees(self, layer: int, input_ids: Tensor) -> bool:
        if self.blocks is None:
            logger.warning("%s: no list of blocks found; every pass runs all layers.", type(self.model).__name__)
            return False
        mask = torch.ones_like(input_ids)
        expected = self._full(layer, input_ids, mask)
        try:
            found = self._stopped(layer, input_ids, mask)
        except RuntimeError as error:
            logger.warning("%s: stopping early failed (%s).", type(self.model).__name__, error)
            return False
        same = found.shape == expected.shape and torch.allclose(
            found.float(), expected.float(), rtol=1e-2, atol=1e-4, equal_nan=True
        )
        if not same:
            logger.warning(
                "%s: the output of block %d is not hidden_states[%d]; every pass runs all layers.",
                type(self.model).__name__,
                layer,
                layer,
            )
        return same

    def _full(self, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self._forward(input_ids, attention_mask, output_hidden_states=True).hidden_states
        return cast("Tensor", states[layer])

    def _stopped(self, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if layer == self.num_layers:
            return cast("Tensor", self._forward(input_ids, attention_mask).last_hidden_state)
        blocks = cast("nn.ModuleList", self.blocks)
        if layer == 0:
            handle = blocks[0].register_forward_pre_hook(_stop_before, with_kwargs=True)
        else:
            handle = blocks[layer - 1].register_forward_hook(_stop_after)
        try:
            self._forward(input_ids, attention_mask)
        except _Reached as reached:
            return reached.hidden
        finally:
            handle.remove()
        raise RuntimeError(f"block {layer} did not run")

    def _forward(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            options["use_cache"] = False
        return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **options)

    def identity(self, layer: int) -> str:
        """Hash of the configuration and of every weight that `layer` depends on.

        Each tensor enters with its name, its shape, the exact sum of its bits and a sample of its values: any single
        change is seen, at the cost of reading the weights once.
        """
        digest = hashlib.sha256(_stable_json(self.model.config.to_dict()).encode())
        for name, parameter in self.model.named_parameters():
            if not self._beyond(name, layer):
                digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
                digest.update(_bits(parameter))
        for name, module in self.model.named_modules():
            # A layer of peft; on transformers' own models this name is a method.
            if isinstance(getattr(module, "disable_adapters", None), bool):
                scaling = sorted(getattr(module, "scaling", {}).items())
                digest.update(f"{name} {module.active_adapters} {module.disable_adapters} {scaling}".encode())
        return digest.hexdigest()[:32]

    def _beyond(self, name: str, layer: int) -> bool:
        """Whether a parameter comes after the layer. A pooler may even be freshly random at each load."""
        return "pooler" in name.split(".") or any(name.startswith(prefix) for prefix in self._later_prefixes(layer))

    def _later_prefixes(self, layer: int) -> tuple[str, ...]:
        if self.blocks is None:
            return ()
        later = {id(block) for block in self.blocks[layer:]}
        return tuple(f"{name}." for name, module in self.model.named_modules() if id(module) in later)


def _without_head(model: nn.Module) -> PreTrainedModel:
    if hasattr(model, "get_base_model"):  # peft's PeftModel: the adapters live inside its base model
        if model.active_peft_config.is_prompt_learning:  # type: ignore[union-attr]
            raise TypeError(
                "this adapter works through virtual tokens, which hidden states leave out; pass "
                "model.get_base_model() to embed without it, or train a LoRA adapter."
            )
        model = cast("nn.Module", model.get_base_model())  # type: ignore[operator]
    if not isinstance(model, transformers.PreTrainedModel):
        raise TypeError(f"model must be a transformers model, a folder or a Hub id, got {type(model).__name__}.")
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


def _stop_before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _Reached(args[0] if args else kwargs["hidden_states"])


def _stop_after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
    raise _Reached(output[0] if isinstance(output, tuple | list) else output)


@contextlib.contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    # Module by module: a user may have frozen a few of them in evaluation mode inside a model in training.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _stable_json(config: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True, default=str)


def _bits(parameter: Tensor) -> bytes:
    values = parameter.detach().flatten()
    if values.is_meta:
        return b"meta"
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(values.element_size())
    if integers is None or values.numel() == 0:
        return b""
    values = values.view(integers)
    sample = values[:: max(1, values.numel() // 256)]
    # Integer sums do not depend on the order of addition, hence not on the device.
    return str(int(values.sum(dtype=torch.int64))).encode() + sample.cpu().numpy().tobytes()
