"""Rescales gradients as Adam does: entries that are always large count less.

An example's influence on a target under Adam is <g(target), Gamma(example)>, where Gamma is the update that Adam would
make for that example alone (Xia et al. 2024, LESS, arXiv:2402.04333, section 3.1):

    Gamma = m' / (sqrt(v') + eps),  m' = (b1 m + (1 - b1) g) / (1 - b1^t),  v' = (b2 v + (1 - b2) g^2) / (1 - b2^t)

with the moments m and v of the optimizer, entry by entry, and t the number of the current step. Two ways to use it:

- `kind="kernel"`: g / sqrt(sqrt(v_hat) + eps) for pool and targets alike, v_hat = v / (1 - b2^steps). The inner product
  is then that influence with the momentum m and the example's own part of v' left out, and it is a kernel.
- `kind="update"`: Gamma itself, for the pool only; targets keep plain gradients. This is as published, but not
  symmetric, and b1 m is one vector common to all rows: centre the features, or rank by inner product as LESS does.

Dividing entry by entry needs the whole gradient matrix. On LoRA layers this is cheap, and the rescaling is exact. On
other layers v is replaced by its row and column means, v_ij ~ r_i c_j / mean(r), as Adafactor stores it (Shazeer and
Stern 2018, arXiv:1804.04235, section 3): the scaling is then one factor for each row and column and costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from torch import Tensor, nn

    from itl_hf.embedding.embedders.gradients.layers import Layer

Kind = Literal["kernel", "update"]
_PEFT = "base_model.model."


@dataclass(frozen=True)
class Factors:
    """A scaling of the columns and rows of a gradient matrix: shapes (d_in,) and (d_out,), float32."""

    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class Exact:
    """A rescaling entry by entry.

    Args:
        second (`Tensor`):
            Shape (d_out, d_in), the second moments `v`.
        first (`Tensor`, *optional*):
            The first moments `m`, for `kind="update"`; without them the rescaling is that of `kind="kernel"`.
        step (`int`):
            Steps that the optimizer has made.
        betas (`tuple[float, float]`):
            Adam's `b1` and `b2`.
        eps (`float`):
            Adam's `eps`.
    """

    second: Tensor
    first: Tensor | None
    step: int
    betas: tuple[float, float]
    eps: float

    def __call__(self, gradient: Tensor) -> Tensor:
        """Rescales gradients of shape (B, d_out, d_in)."""
        second = self.second.to(gradient)
        if self.first is None:
            second = second / (1 - self.betas[1] ** self.step)
            return gradient / (second.sqrt() + self.eps).sqrt()
        decay, decay_second = self.betas
        first = decay * self.first.to(gradient) + (1 - decay) * gradient
        second = decay_second * second + (1 - decay_second) * gradient.square()
        second = second / (1 - decay_second ** (self.step + 1))
        return first / (1 - decay ** (self.step + 1)) / (second.sqrt() + self.eps)


class AdamPreconditioner:
    """Rescales the gradients of each layer by an optimizer's state.

    Args:
        state (`Mapping[str, Mapping[str, Tensor]]`):
            State of the optimizer for each weight, by its name in the model: `exp_avg_sq`, for `"update"` also
            `exp_avg`, and `step`; or Adafactor's `exp_avg_sq_row` and `exp_avg_sq_col`.
        kind (`"kernel"` or `"update"`, *optional*, defaults to `"kernel"`):
            `"kernel"` rescales the gradients of pool and targets alike; `"update"` computes Adam's update, for the pool
            and for LoRA layers only. See `itl_hf.embedding.embedders.gradients.adam` for the formulas.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.999)`):
            Adam's `b1` and `b2`.
        eps (`float`, *optional*, defaults to 1e-8):
            Adam's `eps`.

    Raises:
        `ValueError`: If `kind` is unknown; later, if the state has nothing about a hooked layer.

    Example:
        >>> adam = AdamPreconditioner.from_optimizer(trainer.optimizer, model)  # doctest: +SKIP
        >>> embedder = Gradients(model, adam=adam)  # doctest: +SKIP
    """

    def __init__(
        self,
        state: Mapping[str, Mapping[str, Any]],
        *,
        kind: Kind = "kernel",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {kind!r}.")
        self.state = {name.removeprefix(_PEFT): dict(values) for name, values in state.items()}
        self.kind: Kind = kind
        self.betas = betas
        self.eps = eps
        self._rescalings: dict[str, Exact | Factors] = {}

    @classmethod
    def from_optimizer(
        cls, optimizer: torch.optim.Optimizer, model: nn.Module, *, kind: Kind = "kernel"
    ) -> AdamPreconditioner:
        """Takes state, betas and eps of an optimizer of the model's parameters that has made steps.

        Args:
            optimizer (`torch.optim.Optimizer`):
                Adam, AdamW or another with `exp_avg_sq`. For a checkpoint: build it as in training and
                `load_state_dict`.
            model (`nn.Module`):
                The model whose parameters it optimizes.
            kind (`"kernel"` or `"update"`, *optional*, defaults to `"kernel"`):
                As for the class.

        Raises:
            `ValueError`: If it has no state for any of the model's parameters.
        """
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        state = {names[id(p)]: dict(values) for p, values in optimizer.state.items() if id(p) in names}
        if not state:
            raise ValueError("the optimizer keeps nothing about this model's parameters: it has made no step yet.")
        group = optimizer.param_groups[0]
        betas = tuple(group.get("betas", (0.9, 0.999)))
        eps = group.get("eps", 1e-8)
        return cls(state, kind=kind, betas=betas, eps=eps if isinstance(eps, float) else 1e-8)

    def rescaling(self, layer: Layer) -> Exact | Factors:
        """Returns how the gradients of a layer are rescaled.

        Raises:
            `ValueError`: If the state lacks what that needs.
        """
        if layer.name not in self._rescalings:
            self._rescalings[layer.name] = self._exact(layer) if layer.adapter else self._factors(layer)
        return self._rescalings[layer.name]

    def fingerprint(self, layers: Sequence[Layer]) -> str:
        """Returns a hash of everything that rescales `layers`."""
        digest = hashlib.sha256(f"{self.kind} {self.betas} {self.eps}".encode())
        for layer in layers:
            for key, value in sorted(self._state_of(layer).items()):
                values = torch.as_tensor(value).detach().float().cpu().contiguous()
                digest.update(f"{layer.name} {key}".encode() + values.numpy().tobytes())
        return digest.hexdigest()[:32]

    def _exact(self, layer: Layer) -> Exact:
        state = self._state_of(layer)
        keys = ("exp_avg_sq",) if self.kind == "kernel" else ("exp_avg_sq", "exp_avg")
        missing = [key for key in keys if key not in state]
        if missing:
            raise ValueError(f"the optimizer's state of {layer.name}.weight has no {missing}: it is not Adam's.")
        first = state["exp_avg"] if self.kind == "update" else None
        return Exact(state["exp_avg_sq"], first, self._steps(layer), self.betas, self.eps)

    def _factors(self, layer: Layer) -> Factors:
        if self.kind == "update":
            raise ValueError(
                f"{layer.name} is not a LoRA layer: its update would need the whole gradient of every row. Use "
                "kind='kernel', or name LoRA layers with modules=."
            )
        state = self._state_of(layer)
        if "exp_avg_sq_row" in state:
            rows, columns, steps = state["exp_avg_sq_row"], state["exp_avg_sq_col"], None
        elif "exp_avg_sq" in state and state["exp_avg_sq"].ndim == 2:
            second = state["exp_avg_sq"].float()
            rows, columns, steps = second.mean(1), second.mean(0), self._steps(layer)
        else:
            raise ValueError(f"the optimizer's state of {layer.name}.weight has no second moments.")
        # Adafactor's decay has no bias to correct.
        correction = 1.0 if steps is None else 1 - self.betas[1] ** steps
        rows, columns = rows.float() / correction, columns.float() / correction
        if isinstance(layer.module, Conv1D):  # its weight is (d_in, d_out)
            rows, columns = columns, rows
        mean = rows.mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        outputs, inputs = (((part / mean).sqrt() + self.eps**0.5).rsqrt() for part in (rows, columns))
        return Factors(inputs, outputs)

    def _steps(self, layer: Layer) -> int:
        # Without a count: as after many steps, where the bias correction is 1.
        return max(1, int(self._state_of(layer).get("step", 10**9)))

    def _state_of(self, layer: Layer) -> dict[str, Any]:
        name = f"{layer.name}.weight"
        if name not in self.state:
            raise ValueError(
                f"the optimizer keeps nothing about {name}, whose gradient is to be rescaled. Limit modules= to the "
                "layers that were trained."
            )
        return self.state[name]
