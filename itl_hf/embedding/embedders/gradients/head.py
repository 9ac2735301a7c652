"""The gradient of the loss with respect to the last hidden states, without the (B, T, V) logits.

Only positions with a label are looked at, a bounded number at a time: logits, softmax minus one-hot, times the head's
weight. A model that does more than a matrix product (soft-capped or scaled logits, an adapter on the head) is noticed
on a few tokens at the first use; its own code then computes the logits of those positions, and autograd the rest.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from itl_hf.embedding.embedders.model_loading import without_peft

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from itl_hf.embedding.embedders.gradients.labels import Labels

#: Numbers in the logits that exist at a time: 128 MB in float32.
CHUNK = 2**25


class Head:
    """From hidden states to the loss and its gradient.

    Args:
        model (`PreTrainedModel`):
            A causal language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._linear: bool | None = None  # unknown until the first use

    def gradient(self, hidden: Tensor, labels: Labels, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Gradient of the summed mean losses, and the losses.

        Args:
            hidden (`Tensor`):
                Shape (B, T, d), what enters the head.
            labels (`Labels`):
                Of the batch.
            scale (`float`, *optional*, defaults to 1):
                Multiplies the gradient, to keep float16 from underflow.

        Returns:
            `tuple[Tensor, Tensor]`: the gradient, shape (B, T, d), and the mean loss of each row in nats, shape (B,),
            float32.
        """
        gradient = torch.zeros_like(hidden)  # (B, T, d)
        loss = torch.zeros(len(hidden), device=hidden.device)  # (B,)
        selected = hidden.detach()[labels.rows, labels.positions]  # (N, d)
        step = max(1, CHUNK // self._vocabulary())
        for start in range(0, len(selected), step):
            part = slice(start, start + step)
            tokens = None if labels.tokens is None else labels.tokens[part]
            losses, change = self._chunk(selected[part], tokens)  # (n,), (n, d)
            rows, weights = labels.rows[part], labels.weights[part]
            gradient[rows, labels.positions[part]] = change * (scale * weights[:, None]).to(change.dtype)
            loss.index_add_(0, rows, losses.float() * weights)
        return gradient, loss

    def check(self, input_ids: Tensor) -> None:
        """Find out, on a few tokens, how this model turns hidden states into logits.

        Args:
            input_ids (`Tensor`):
                Shape (1, t), without padding.

        Raises:
            `TypeError`: Neither way gives the model's own logits.
        """
        if self._linear is not None:
            return
        with torch.no_grad():
            inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "use_cache": False}
            hidden = self.model.base_model(**inputs).last_hidden_state[0]  # (t, d)
            expected = self.model(**inputs).logits[0]  # (t, V)
            product = self._product(hidden)
            # The same product in the same shapes: no more than the last bits may differ.
            self._linear = product is not None and _same(product, expected, 8 * torch.finfo(expected.dtype).eps)
            if self._linear or _same(self._own(hidden), expected, 0.02):
                return
        self._linear = None
        raise TypeError(
            f"{type(self.model).__name__}: its logits could not be computed from its last hidden states, which "
            "gradients rest on."
        )

    def _chunk(self, hidden: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self._linear:
            return self._by_autograd(hidden, tokens)
        weight = cast("nn.Linear", output_embeddings(self.model)).weight
        logits = _wide(cast("Tensor", self._product(hidden)))  # (n, V)
        tokens = logits.argmax(-1) if tokens is None else tokens
        each = torch.arange(len(logits), device=logits.device)
        total = logits.logsumexp(-1)  # (n,)
        losses = total - logits[each, tokens]
        change = logits.sub_(total[:, None]).exp_()  # softmax, then minus one-hot, in place
        change[each, tokens] -= 1
        return losses, change.to(weight.dtype) @ weight

    def _by_autograd(self, hidden: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden = hidden.clone().requires_grad_()
        logits = _wide(self._own(hidden))  # (n, V)
        tokens = logits.detach().argmax(-1) if tokens is None else tokens
        losses = nn.functional.cross_entropy(logits, tokens, reduction="none")
        return losses.detach(), torch.autograd.grad(losses.sum(), hidden)[0]

    def _product(self, hidden: Tensor) -> Tensor | None:
        head = output_embeddings(self.model)
        if not isinstance(head, nn.Linear) or not head.weight.is_floating_point():
            return None
        return nn.functional.linear(hidden, head.weight, head.bias)

    def _own(self, hidden: Tensor) -> Tensor:
        """Logits (n, V) by the model's own code: it runs on one token, and our states take the place of its own."""

        def replace(_module: nn.Module, _args: Any, output: Any) -> Any:
            output.last_hidden_state = hidden[None]
            return output

        handle = self.model.base_model.register_forward_hook(replace)
        try:
            token = torch.zeros(1, 1, dtype=torch.long, device=self._device)
            output = self.model(input_ids=token, attention_mask=torch.ones_like(token), use_cache=False)
        finally:
            handle.remove()
        return cast("Tensor", output.logits[0])

    def _vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    @functools.cached_property
    def _device(self) -> torch.device:
        return cast("nn.Embedding", self.model.get_input_embeddings()).weight.device


def checked_causal_model(model: nn.Module) -> PreTrainedModel:
    """Returns the causal language model inside a model with or without adapters.

    Raises:
        `TypeError`: If it is another kind of model, or has no head.
    """
    model = without_peft(model, "leave the model's layers alone")
    if model.config.is_encoder_decoder or not model.can_generate() or output_embeddings(model) is None:
        raise TypeError(
            f"gradients need a causal language model with its head, got {type(model).__name__}. Load it with "
            "AutoModelForCausalLM, or use HiddenStates."
        )
    return model


def output_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """Returns the language-model head, if there is one."""
    return cast("nn.Module | None", cast("Any", model).get_output_embeddings())


def _wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _same(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    if found.shape != expected.shape:
        return False
    found, expected = found.float(), expected.float()
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())
