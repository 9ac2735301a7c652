"""Hashes of weights and tokenizers: equal ones give equal strings, whatever folder a model was loaded from.

Reading every weight takes about a second per gigabyte, so weights are read again only if something changed. Detected
are: steps of an optimizer, `load_state_dict`, other tensors put in place (all of these change torch's version counters
or addresses), adapters that are loaded, merged or switched, and writes through `.data` that change many values (a
sample of each tensor is compared as well). Not detected are a few single values written through `.data` after the
weights were first read; write them under `torch.no_grad()` instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

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


class WeightsHash:
    """Computes a hash of a model's configuration, adapters and weights.

    Each tensor enters with its name, its shape, the exact sum of its bits and a sample of its values. Any single change
    then changes the hash, at the cost of reading the weights once.

    Args:
        model (`PreTrainedModel`):
            It may be in training: the hash is computed anew at each call.

    Example:
        >>> WeightsHash(model)()  # doctest: +SKIP
        '5f0c3a9be14d2f6870a1c9d3e2b48f15'
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        #: Hash of the weights by hash of what can be read quickly.
        self._cache: dict[bytes, str] = {}
        # Read before the first pass, at which bitsandbytes reorders them on a CPU; they are never trained.
        self._quantization_hashes = _hashes_of_4bit_weights(model)

    def __call__(self, is_relevant: Callable[[str], bool] = lambda name: True) -> str:
        """Returns 128 bits of SHA-256 over the tensors for whose name `is_relevant` is true."""
        tensors = [(name, tensor) for name, tensor in _tensors(self._model) if is_relevant(name)]
        hashes_of_4bit = [digest for name, digest in self._quantization_hashes.items() if is_relevant(name)]
        config = self._model.config.to_dict()  # type: ignore[operator, union-attr]
        state = stable_json(config) + _adapter_states(self._model) + "".join(hashes_of_4bit)
        key = hashlib.sha256(state.encode())
        for name, tensor in tensors:
            version = -1 if tensor.is_inference() else tensor._version
            key.update(f"{name} {id(tensor)} {version} {tensor.data_ptr()}".encode())
            key.update(_sample(tensor))
        if (digest := key.digest()) not in self._cache:
            self._cache = {digest: _hash_tensors(state, tensors)}  # only the last: weights in training do not come back
        return self._cache[digest]


def _hash_tensors(state: str, tensors: list[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256(state.encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_sum(tensor) + _sample(tensor))
    return digest.hexdigest()[:32]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields parameters, except those in 4 bits, and saved buffers, with their names."""
    for name, parameter in model.named_parameters():
        if getattr(parameter, "quant_state", None) is None:
            yield name, parameter
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            # Buffers that are not saved follow from the config.
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}", buffer


def _hashes_of_4bit_weights(model: nn.Module) -> dict[str, str]:
    """Returns the hashes of weights that bitsandbytes holds in 4 bits, each with its scales."""
    hashes = {}
    for name, parameter in model.named_parameters():
        quantization = getattr(parameter, "quant_state", None)
        if quantization is not None:
            hashes[name] = _hash_tensors("", [(name, parameter), (f"{name}.absmax", quantization.absmax)])
    return hashes


def _adapter_states(model: nn.Module) -> str:
    """Describes the state of each layer of peft (on transformers' own models `disable_adapters` is a method)."""
    layers = [
        f"{name} {module.active_adapters} {module.disable_adapters} {getattr(module, 'merged_adapters', [])} "
        f"{sorted(getattr(module, 'scaling', {}).items())}"
        for name, module in model.named_modules()
        if isinstance(getattr(module, "disable_adapters", None), bool)
    ]
    return "".join(layers)


def _sum(tensor: Tensor) -> bytes:
    values = _bits(tensor)
    # Integer sums do not depend on the order of addition, hence not on the device.
    return b"" if values is None else str(int(values.sum(dtype=torch.int64))).encode()


def _sample(tensor: Tensor) -> bytes:
    values = _bits(tensor)
    return b"" if values is None else values[:: max(1, values.numel() // _SAMPLE)].cpu().numpy().tobytes()


def _bits(tensor: Tensor) -> Tensor | None:
    """Returns the bits of all values as integers, flat; `None` if there are no values to read."""
    values = tensor.detach().flatten()
    integer_type = _INTEGERS.get(values.element_size())
    return None if integer_type is None or values.is_meta or values.numel() == 0 else values.view(integer_type)


def stable_json(config: dict[str, Any]) -> str:
    """Returns a configuration without what does not change features; the same text in every process."""
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True, default=str)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a hash of everything that determines a tokenizer's ids, without padding and truncation."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return short_hash(repr(sorted(tokenizer.get_vocab().items())))
    # Padding and truncation are those of the last call, not properties of the tokenizer.
    backend = type(backend).from_str(backend.to_str())
    backend.no_padding()
    backend.no_truncation()
    return short_hash(backend.to_str())


def short_hash(text: str) -> str:
    """Returns 128 bits of SHA-256 as a hexadecimal string."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
