"""Which weights a model has, as a short string: equal weights give equal strings, whatever their folder is called.

Reading every weight takes about a second per gigabyte, so it is done again only where something changed. What is seen:
steps of an optimizer, `load_state_dict`, other tensors put in place (all of these move torch's version counters or
addresses), adapters loaded, merged or switched, and writes through `.data` that touch many values (a sample of each
tensor is compared as well). What is not: a few single values written through `.data` after the weights were first read;
write them under `torch.no_grad()` instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

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
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SAMPLE = 256


class WeightsIdentity:
    """Hash of a model's configuration, adapters and weights.

    Each tensor enters with its name, its shape, the exact sum of its bits and a sample of its values: any single change
    is seen, at the cost of reading the weights once.

    Args:
        model (`PreTrainedModel`):
            May be in training; it is looked at anew at each call.

    Example:
        >>> WeightsIdentity(model)()  # doctest: +SKIP
        '5f0c3a9be14d2f6870a1c9d3e2b48f15'
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._seen: dict[bytes, str] = {}
        # Read before the first pass, at which bitsandbytes reorders them on a CPU; they are never trained.
        self._quantised = _quantised(model)

    def __call__(self, relevant: Callable[[str], bool] = lambda name: True) -> str:
        """128 bits of SHA-256 over the tensors whose name is `relevant`."""
        tensors = [(name, tensor) for name, tensor in _tensors(self._model) if relevant(name)]
        quantised = [digest for name, digest in self._quantised.items() if relevant(name)]
        config = self._model.config.to_dict()  # type: ignore[operator, union-attr]
        state = stable_json(config) + _adapters(self._model) + "".join(quantised)
        key = hashlib.sha256(state.encode())
        for name, tensor in tensors:
            key.update(f"{name} {id(tensor)} {_version(tensor)} {tensor.data_ptr()}".encode())
            key.update(_sample(tensor))
        if (digest := key.digest()) not in self._seen:
            self._seen = {digest: _hashed(state, tensors)}  # only the last: a model in training never comes back
        return self._seen[digest]


def _hashed(state: str, tensors: list[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256(state.encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_sum(tensor) + _sample(tensor))
    return digest.hexdigest()[:32]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if not _is_quantised(parameter):
            yield name, parameter
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            # Those that are not saved follow from the config.
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}", buffer


def _is_quantised(parameter: nn.Parameter) -> bool:
    return getattr(parameter, "quant_state", None) is not None


def _quantised(model: nn.Module) -> dict[str, str]:
    """Hashes of weights that bitsandbytes holds in 4 bits, with the scales it keeps beside them."""
    found = {}
    for name, parameter in model.named_parameters():
        if _is_quantised(parameter):
            scales = parameter.quant_state.absmax  # type: ignore[attr-defined]
            found[name] = _hashed("", [(name, parameter), (f"{name}.absmax", scales)])
    return found


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _adapters(model: nn.Module) -> str:
    """The state of each layer of peft (on transformers' own models `disable_adapters` is a method)."""
    layers = [
        f"{name} {module.active_adapters} {module.disable_adapters} {getattr(module, 'merged_adapters', [])} "
        f"{sorted(getattr(module, 'scaling', {}).items())}"
        for name, module in model.named_modules()
        if isinstance(getattr(module, "disable_adapters", None), bool)
    ]
    return "".join(layers)


def stable_json(config: dict[str, Any]) -> str:
    """A configuration without what does not change features, the same text in every process."""
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True, default=str)


def _integers(tensor: Tensor) -> Tensor | None:
    """The bits of all values, flat; `None` where there are none to read."""
    values = tensor.detach().flatten()
    kind = _INTEGERS.get(values.element_size())
    return None if kind is None or values.is_meta or values.numel() == 0 else values.view(kind)


def _sum(tensor: Tensor) -> bytes:
    values = _integers(tensor)
    # Integer sums do not depend on the order of addition, hence not on the device.
    return b"" if values is None else str(int(values.sum(dtype=torch.int64))).encode()


def _sample(tensor: Tensor) -> bytes:
    values = _integers(tensor)
    return b"" if values is None else values[:: max(1, values.numel() // _SAMPLE)].cpu().numpy().tobytes()
