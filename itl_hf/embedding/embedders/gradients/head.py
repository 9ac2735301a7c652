"""The gradient of the loss with respect to the last hidden states, without the (B, T, V) logits.

Only positions with a label are computed, a bounded number at a time: logits, softmax minus one-hot, times the head's
weight. A model that does more than a matrix product (soft-capped or scaled logits, an adapter on the head) is detected
on a few tokens at the first use; its own code then computes the logits of those positions, and autograd the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from itl_hf.embedding.embedders.model_loading import body_of, embedding_table, without_peft
from itl_hf.embedding.embedders.offloading import execution_device

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from itl_hf.embedding.embedders.gradients.labels import Labels

#: Most logits in memory at a time: 128 MB in float32.
CHUNK = 2**25


class Head:
    """Computes the loss and its gradient from the last hidden states.

    Args:
        model (`PreTrainedModel`):
            A causal language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._is_linear: bool | None = None  # unknown until the first use

    def gradient(self, hidden: Tensor, labels: Labels, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Computes the gradient of the sum of the rows' mean losses, and these losses.

        Args:
            hidden (`Tensor`):
                Shape (B, T, d), the input of the head.
            labels (`Labels`):
                Labels of the batch.
            scale (`float`, *optional*, defaults to 1):
                Multiplies the gradient, to keep float16 from underflow.

        Returns:
            `tuple[Tensor, Tensor]`: The gradient, shape (B, T, d), and the mean loss of each row in nats, shape (B,),
            float32.
        """
        gradient = torch.zeros_like(hidden)  # (B, T, d)
        loss = torch.zeros(len(hidden), device=hidden.device)  # (B,)
        states = hidden.detach()[labels.rows, labels.positions]  # (N, d)
        step = max(1, CHUNK // int(self.model.config.get_text_config().vocab_size))
        for start in range(0, len(states), step):
            part = slice(start, start + step)
            tokens = None if labels.tokens is None else labels.tokens[part]
            losses, change = self._losses(states[part], tokens)  # (n,), (n, d)
            rows, weights = labels.rows[part], labels.weights[part]
            gradient[rows, labels.positions[part]] = change * (scale * weights[:, None]).to(change.dtype)
            loss.index_add_(0, rows, losses.float() * weights)
        return gradient, loss

    def check(self, input_ids: Tensor) -> None:
        """Determines, on a few tokens, how this model computes logits from hidden states.

        Args:
            input_ids (`Tensor`):
                Shape (1, t), without padding.

        Raises:
            `TypeError`: If neither way gives the model's own logits.
        """
        if self._is_linear is not None:
            return
        with torch.no_grad():
            inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "use_cache": False}
            hidden = body_of(self.model)(**inputs).last_hidden_state[0]  # (t, d)
            reference = self.model(**inputs).logits[0]  # (t, V)
            product = self._product(hidden)
            # The same product in the same shapes: no more than the last bits may differ.
            self._is_linear = product is not None and _close(product, reference, 8 * torch.finfo(reference.dtype).eps)
            if self._is_linear or _close(self._model_logits(hidden), reference, 0.02):
                return
        self._is_linear = None
        raise TypeError(
            f"{type(self.model).__name__}: its logits could not be computed from its last hidden states, which "
            "gradients require."
        )

    def _losses(self, hidden: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self._is_linear:
            return self._by_autograd(hidden, tokens)
        weight = cast("nn.Linear", output_embeddings(self.model)).weight
        logits = widen(cast("Tensor", self._product(hidden)))  # (n, V)
        tokens = logits.argmax(-1) if tokens is None else tokens
        positions = torch.arange(len(logits), device=logits.device)
        total = logits.logsumexp(-1)  # (n,)
        losses = total - logits[positions, tokens]
        change = logits.sub_(total[:, None]).exp_()  # softmax, then minus one-hot, in place
        change[positions, tokens] -= 1
        return losses, change.to(weight.dtype) @ weight

    def _by_autograd(self, hidden: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden = hidden.clone().requires_grad_()
        logits = widen(self._model_logits(hidden))  # (n, V)
        tokens = logits.detach().argmax(-1) if tokens is None else tokens
        losses = nn.functional.cross_entropy(logits, tokens, reduction="none")
        return losses.detach(), torch.autograd.grad(losses.sum(), hidden)[0]

    def _product(self, hidden: Tensor) -> Tensor | None:
        head = output_embeddings(self.model)
        if not isinstance(head, nn.Linear) or not head.weight.is_floating_point():
            return None
        return nn.functional.linear(hidden, head.weight, head.bias)

    def _model_logits(self, hidden: Tensor) -> Tensor:
        """Computes logits (n, V) by the model's own code, which runs on one token whose states are replaced."""

        def replace(_module: nn.Module, _args: Any, output: Any) -> Any:
            output.last_hidden_state = hidden[None]
            return output

        handle = body_of(self.model).register_forward_hook(replace)
        try:
            device = execution_device(embedding_table(self.model))
            token = torch.zeros(1, 1, dtype=torch.long, device=device)
            output = self.model(input_ids=token, attention_mask=torch.ones_like(token), use_cache=False)
        finally:
            handle.remove()
        return cast("Tensor", output.logits[0])


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


def widen(values: Tensor) -> Tensor:
    """Converts to float32, unless the values are of higher precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _close(result: Tensor, reference: Tensor, tolerance: float) -> bool:
    if result.shape != reference.shape:
        return False
    result, reference = result.float(), reference.float()
    return bool((result - reference).abs().max() <= tolerance * reference.abs().max())
