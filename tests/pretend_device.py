"""A pretend accelerator for tests on machines without one.

`put(tensor)` returns a tensor in CPU memory that says it is on `cuda:0`. Within `pretend()`, operations that CUDA
refuses raise `DeviceFault`: mixing tensors of both devices, indexing a CPU tensor by a pretend one, `.numpy()`.
Operations for which a real device makes the host wait are counted in `SYNCS`, copies to the device in `COPIES` and
those of them that wait (no `non_blocking`) in `BLOCKING_COPIES` too, and with `pretend(counts_launches=True)` the
operations that a device would start in `LAUNCHES`, each by the line of `itl_hf` that asked for it. It works at the
level of `__torch_function__`: calls of torch from Python.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
SYNCS: collections.Counter[str] = collections.Counter()
COPIES: collections.Counter[str] = collections.Counter()
BLOCKING_COPIES: collections.Counter[str] = collections.Counter()
LAUNCHES: collections.Counter[str] = collections.Counter()
_COUNTERS = (SYNCS, COPIES, BLOCKING_COPIES, LAUNCHES)

_TO_NUMPY = {"numpy", "__array__", "__dlpack__"}
#: Operations whose result the host must wait for.
_WAITS = {
    *("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "masked_select", "unique"),
    *("unique_consecutive", "equal", "allclose", "bincount", "repeat_interleave", "is_nonzero"),
    *("eigh", "linalg_eigh", "svd", "linalg_svd", "eigvalsh", "linalg_eigvalsh", "matrix_rank", "lstsq"),
}
#: Operations of ATen that start nothing on a device: views, and memory that is only reserved.
_NO_LAUNCH = {
    *("view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze"),
    *("alias", "detach", "as_strided", "unbind", "split", "split_with_sizes", "diagonal", "reshape", "unfold"),
    *("_reshape_alias", "lift_fresh", "_local_scalar_dense", "empty", "empty_like", "new_empty", "empty_strided"),
    *("new_empty_strided", "is_same_size", "sym_size"),
}
#: Operations that take tensors of both devices.
_MIX = {
    "view_as",
    "expand_as",
    "reshape_as",
    "copy_",
    "type_as",
    "set_",
    "__setstate__",
    "__deepcopy__",
    "__reduce_ex__",
}
#: Operations that refuse even a number in a CPU tensor.
_STRICT = {"cat", "stack", "concat", "matmul", "mm", "isin", "gather", "index_select"}
_CUDA_FUNCTIONS: dict[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "is_initialized": lambda: False,
    "empty_cache": lambda: None,
    "synchronize": lambda *a: None,
    "max_memory_allocated": lambda *a: 0,
    "mem_get_info": lambda *a: (2**37, 2**37),
    "get_device_properties": lambda *a: types.SimpleNamespace(total_memory=2**37),
}


class DeviceFault(RuntimeError):
    """What CUDA would have refused."""


class _LaunchCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of one call."""

    is_on = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.split("::")[1] not in _NO_LAUNCH:
            LAUNCHES[_place()] += 1
        return func(*args, **(kwargs or {}))


def _new_counter() -> Any:
    return _LaunchCounter()  # type: ignore[no-untyped-call]


class PretendTensor(torch.Tensor):
    """A tensor in CPU memory that says it is on `cuda:0`."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}))


@contextlib.contextmanager
def pretend(counts_launches: bool = False) -> Iterator[None]:
    """Makes `torch.cuda` say that there is one device, and checks every call of torch."""
    saved = {name: getattr(torch.cuda, name) for name in _CUDA_FUNCTIONS}
    for counter in _COUNTERS:
        counter.clear()
    _LaunchCounter.is_on = counts_launches
    for name, function in _CUDA_FUNCTIONS.items():
        setattr(torch.cuda, name, function)
    try:
        with _Mode():
            yield
    finally:
        _LaunchCounter.is_on = False
        for name, function in saved.items():
            setattr(torch.cuda, name, function)


def put(values: Any) -> Any:
    """Copies a tensor or array to the pretend device; anything else is returned as it is."""
    return torch.as_tensor(values).clone().as_subclass(PretendTensor) if hasattr(values, "shape") else values


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = _name(func)
    tensors = [*_tensors(args), *_tensors(kwargs)]
    on_device = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    first = args[0] if args and isinstance(args[0], torch.Tensor) else None
    if name.startswith("get:"):
        return _attribute(name.removeprefix("get:"), func, args, kwargs, first)
    if name in ("cpu", "cuda", "to"):
        return _move(name, func, args, kwargs)
    if "device" in kwargs and kwargs["device"] is not None:
        return _create(name, func, args, kwargs)
    if not on_device:
        return func(*args, **kwargs)
    if name in _TO_NUMPY:
        raise TypeError(f"can't convert cuda:0 device type tensor to numpy ({_place()})")
    _check_devices(name, args, tensors)
    if name in _WAITS or (name == "where" and len(args) == 1):
        SYNCS[f"{name} @ {_place()}"] += 1
    if name == "new_tensor":
        _count_copy(name, to_device=True, waits=True)
    if name == "copy_":
        if isinstance(args[1], PretendTensor) != isinstance(first, PretendTensor):
            _count_copy(name, isinstance(first, PretendTensor), not kwargs.get("non_blocking", False))
        _plain(func, args, kwargs, on_device)
        return first
    return _wrapped(_plain(func, args, kwargs, on_device))


def _count_copy(name: str, to_device: bool, waits: bool) -> None:
    """Counts a copy between the devices; the host always waits for one that it reads."""
    key = f"{name} @ {_place()}"
    if to_device:
        COPIES[key] += 1
        BLOCKING_COPIES[key] += waits
    else:
        SYNCS[key] += 1


def _attribute(name: str, func: Any, args: Any, kwargs: Any, tensor: Any) -> Any:
    own = isinstance(tensor, PretendTensor)
    if name == "device":
        return CUDA if own else _plain(func, args, kwargs)
    if name in ("is_cuda", "is_cpu"):
        return own == (name == "is_cuda")
    value = _plain(func, args, kwargs)
    return _wrapped(value) if own else value


def _move(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    waits = not kwargs.pop("non_blocking", False)
    own = isinstance(tensor, PretendTensor)
    target: Any = {"cpu": CPU, "cuda": CUDA, "to": kwargs.pop("device", None)}[name]
    others: list[Any] = []
    for each in rest:
        if isinstance(each, torch.Tensor):
            target = CUDA if isinstance(each, PretendTensor) else CPU
            others.append(each.dtype)
        elif isinstance(each, str | torch.device):
            target = each
        elif each is not None:
            others.append(each)
    to_device = own if target is None else torch.device(target).type == "cuda"
    result = _plain(torch.Tensor.to, (tensor, *others), kwargs) if others or kwargs else tensor
    if to_device == own:
        return _wrapped(result) if own else result
    _count_copy(name, to_device, waits)
    result = _plain(torch.Tensor.clone, (result,), {})
    return result.as_subclass(PretendTensor if to_device else torch.Tensor)


def _create(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    to_device = torch.device(kwargs["device"]).type == "cuda"
    if to_device and kwargs.get("generator") is not None:
        raise DeviceFault(f"{name}: a generator of the CPU for a tensor of cuda:0 ({_place()})")
    if to_device and name in ("tensor", "as_tensor", "new_tensor"):
        _count_copy(name, to_device, waits=True)
    if torch.device(kwargs["device"]).type != "meta":
        kwargs["device"] = CPU
    result = _plain(func, args, kwargs)
    if not isinstance(result, torch.Tensor):
        return result
    return result.as_subclass(PretendTensor if to_device else torch.Tensor)


def _check_devices(name: str, args: tuple[Any, ...], tensors: list[torch.Tensor]) -> None:
    if name in ("__getitem__", "__setitem__"):
        _check_index(name, args)
        return
    on_cpu = [
        tensor for tensor in tensors if not isinstance(tensor, PretendTensor) and (tensor.ndim > 0 or name in _STRICT)
    ]
    if on_cpu and name not in _MIX:
        shapes = [(tuple(each.shape), "cuda" if isinstance(each, PretendTensor) else "cpu") for each in tensors]
        raise DeviceFault(f"{name}: tensors on cuda:0 and cpu, {shapes} ({_place()})")


def _check_index(name: str, args: tuple[Any, ...]) -> None:
    own = isinstance(args[0], PretendTensor)
    indices = list(_tensors(args[1] if isinstance(args[1], tuple) else (args[1],)))
    if not own and any(isinstance(index, PretendTensor) and index.ndim > 0 for index in indices):
        raise DeviceFault(f"{name}: a tensor of the cpu is indexed by one of cuda:0 ({_place()})")
    for index in indices if own else ():
        if index.dtype == torch.bool and index.ndim:
            SYNCS[f"mask @ {_place()}"] += 1
        elif index.ndim == 0 and isinstance(index, PretendTensor):
            SYNCS[f"number as index @ {_place()}"] += 1
        elif index.ndim and not isinstance(index, PretendTensor):
            _count_copy("index", to_device=True, waits=True)
    places = args[1] if isinstance(args[1], tuple) else (args[1],)
    if own and any(isinstance(place, list) for place in places):
        _count_copy("list as index", to_device=True, waits=True)
    value = args[2] if name == "__setitem__" else None
    if isinstance(value, torch.Tensor) and isinstance(value, PretendTensor) != own and indices and value.ndim:
        raise DeviceFault(f"index_put_: self and value on different devices ({_place()})")


def _plain(func: Any, args: Any, kwargs: Any, on_device: bool = False) -> Any:
    counter: Any = _new_counter() if on_device and _LaunchCounter.is_on else contextlib.nullcontext()
    with torch._C.DisableTorchFunctionSubclass(), counter:
        return func(*args, **kwargs)


def _wrapped(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if isinstance(value, PretendTensor) else value.as_subclass(PretendTensor)
    if isinstance(value, tuple | list):
        parts = [_wrapped(part) for part in value]
        return (
            type(value)(parts) if not hasattr(value, "_fields") or hasattr(value, "n_fields") else type(value)(*parts)
        )
    return value


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _name(func: Any) -> str:
    name = getattr(func, "__name__", str(func))
    return f"get:{func.__self__.__name__}" if name == "__get__" else name


def _place() -> str:
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if "/itl_hf/" in path:
            return f"{path.split('/itl_hf/')[-1]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of itl_hf"
