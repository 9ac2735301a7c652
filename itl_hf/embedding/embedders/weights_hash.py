"""Hashes of the weights of a model: equal ones give equal strings, whatever folder a model was loaded from.

Reading every weight takes about a second per gigabyte, so weights are read again only if something changed. Detected
are: steps of an optimizer, `load_state_dict`, other tensors put in place (all of these change torch's version counters
or addresses), adapters that are loaded, merged or switched, and writes through `.data` that change many values (a
sample of each tensor is compared as well). Not detected are a few single values written through `.data` after the
weights were first read; write them under `torch.no_grad()` instead. Weights that accelerate keeps on the disk or in the
CPU's memory (`device_map`) are read from there, at each call.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.offloading import offloaded_tensor
from itl_hf.embedding.embedders.quantization import scales_of

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
#: Words of 8 bytes that are summed together: 16 MB.
_CHUNK_WORDS = 2**21
#: Attributes of modules, beside the config, that models are changed by (LLM2Vec makes attention bidirectional).
_SWITCHES = ("is_causal", "is_decoder", "scaling", "sliding_window")


class WeightsHash:
    """Computes a hash of a model's configuration, adapters and weights.

    Each tensor enters with its name, its shape, a sum of its bits weighted by their places (so that exchanging two rows
    changes it) and a sample of its values. Any single change then changes the hash, at the cost of reading the weights
    once.

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
        self._quantization_hashes = _hashes_of_quantized_weights(model)

    def __call__(self, is_relevant: Callable[[str], bool] = lambda name: True) -> str:
        """Returns 128 bits of SHA-256 over the tensors for whose name `is_relevant` is true.

        Raises:
            `ValueError`: If weights are on the meta device and nothing says where their values are.
        """
        tensors = [(name, tensor) for name, tensor in _tensors(self._model) if is_relevant(name)]
        meta_digests = {
            name: _digest(offloaded_tensor(self._model, name)) for name, tensor in tensors if tensor.is_meta
        }
        quantization_hashes = [digest for name, digest in self._quantization_hashes.items() if is_relevant(name)]
        config = self._model.config.to_dict()  # type: ignore[operator, union-attr]
        state = f"{_class_name(self._model)} {stable_json(config)}{_module_states(self._model)}{quantization_hashes}"
        key = hashlib.sha256(state.encode())
        for name, tensor in tensors:
            version = -1 if tensor.is_inference() else tensor._version
            key.update(f"{name} {id(tensor)} {version} {tensor.data_ptr()}".encode())
            key.update(meta_digests.get(name) or _sample(tensor))
        if (digest := key.digest()) not in self._cache:
            self._cache = {
                digest: _hash_tensors(state, tensors, meta_digests)
            }  # only the last: weights in training do not come back
        return self._cache[digest]


def _hash_tensors(state: str, tensors: list[tuple[str, Tensor]], digests: dict[str, bytes]) -> str:
    digest = hashlib.sha256(state.encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(digests.get(name) or _digest(tensor))
    return digest.hexdigest()[:32]


def _digest(tensor: Tensor) -> bytes:
    return _sum(tensor) + _sample(tensor)


def _class_name(model: nn.Module) -> str:
    """Returns the name of the model's class, without the one that FSDP puts before it."""
    return next(kind.__name__ for kind in type(model).__mro__ if not kind.__name__.startswith("FSDP"))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields parameters, except those in 4 or 8 bits, and saved buffers, with their names."""
    for name, parameter in model.named_parameters():
        if scales_of(_owner(model, name), parameter) is None:
            yield name, parameter
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            # Buffers that are not saved follow from the config.
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}".lstrip("."), buffer


def _hashes_of_quantized_weights(model: nn.Module) -> dict[str, str]:
    """Returns the hashes of weights that bitsandbytes holds in 4 or 8 bits, each with its scales."""
    hashes = {}
    for name, parameter in model.named_parameters():
        scales = scales_of(_owner(model, name), parameter)
        if scales is not None:
            hashes[name] = _hash_tensors("", [(name, parameter), (f"{name}.scales", scales)], {})
    return hashes


def _owner(model: nn.Module, parameter: str) -> nn.Module:
    """Returns the module that has the parameter of this name."""
    return model.get_submodule(parameter.rpartition(".")[0])


def _module_states(model: nn.Module) -> str:
    """Describes switches of modules, and each layer of peft (on transformers' own models `disable_adapters` is a
    method).
    """
    states = []
    for name, module in model.named_modules():
        states += [f"{name}.{key} {vars(module)[key]} " for key in _SWITCHES if key in vars(module)]
        if isinstance(getattr(module, "disable_adapters", None), bool):
            states.append(
                f"{name} {module.active_adapters} {module.disable_adapters} {getattr(module, 'merged_adapters', [])} "
                f"{sorted(getattr(module, 'scaling', {}).items())}"
            )
    return "".join(states)


def _sum(tensor: Tensor) -> bytes:
    """Returns the sum of all bits, in words of 8 bytes, each multiplied by a number that its place determines.

    Integer sums, modulo 2^64, do not depend on the order of addition, hence not on the device.
    """
    values = _bits(tensor)
    if values is None:
        return b""
    num_whole = values.numel() * values.element_size() // 8 * 8 // values.element_size()
    total = int(values[num_whole:].sum(dtype=torch.int64))  # less than a word
    step = _CHUNK_WORDS * 8 // values.element_size()
    for start in range(0, num_whole, step):
        chunk = values[start : min(start + step, num_whole)]
        is_aligned = (chunk.storage_offset() * chunk.element_size()) % 8 == 0
        words = (chunk if is_aligned else chunk.clone()).view(torch.int64)
        mixture = words ^ (words >> 29)  # words that differ in their highest bits only then differ in lower ones, too
        total = total * _ODD_NUMBER + int((mixture * _place_weights(words.device)[: len(words)]).sum())
    return str(total % 2**64).encode()


_ODD_NUMBER = 0x9E3779B97F4A7C15


@functools.cache
def _place_weights(device: torch.device) -> Tensor:
    """Returns an odd number for each place of a chunk, (_CHUNK_WORDS,) int64, by the mixing of splitmix64."""
    places = torch.arange(1, _CHUNK_WORDS + 1, device=device)
    places = places * (_ODD_NUMBER - 2**64)
    places = (places ^ (places >> 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    places = (places ^ (places >> 27)) * (0x94D049BB133111EB - 2**64)
    return (places ^ (places >> 31)) | 1


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


def short_hash(text: str) -> str:
    """Returns 128 bits of SHA-256 as a hexadecimal string."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
