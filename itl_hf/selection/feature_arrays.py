"""Reads feature arrays of every kind that users have: lists, NumPy arrays, memory maps, tensors, arrays on disk."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from itl_hf.selection.kept_features import KeptFeatures


@runtime_checkable
class RowReader(Protocol):
    """An array on disk that is read by rows, such as `itl_hf.embedding.StoredFeatures` or an HDF5 dataset."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, d)."""
        ...

    @property
    def dtype(self) -> Any:
        """A NumPy dtype."""
        ...

    @property
    def ndim(self) -> int:
        """2."""
        ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __array__(self, dtype: Any = None) -> np.ndarray: ...


Features = np.ndarray | Tensor | RowReader | KeptFeatures | Sequence[Sequence[float]]


class ReadRows:
    """Reads rows of a `RowReader` as tensors, without the rest of the array in memory.

    Rows are requested in ascending order and once each, which every such array supports.
    """

    def __init__(self, array: RowReader) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, slice):
            rows = np.asarray(self.array[index])
            return torch.from_numpy(rows if rows.flags.writeable else rows.copy())
        numbers, places = np.unique(np.asarray(index, dtype=np.int64), return_inverse=True)
        return torch.from_numpy(np.asarray(self.array[numbers])[places])


class MappedRows:
    """Reads rows of a memory map and releases its pages after each read.

    Otherwise the pages of the whole pool would count as this process's memory until another process needs them.
    """

    def __init__(self, array: np.memmap) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> Tensor:
        rows = torch.from_numpy(np.array(self.array[index], copy=True))
        memory_map = getattr(self.array, "_mmap", None)
        if memory_map is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                memory_map.madvise(mmap.MADV_DONTNEED)
        return rows


def as_device(device: str | torch.device | None) -> torch.device | None:
    """Returns the device of that name with its number; `None` for the device of the features.

    Raises:
        `ValueError`: If the name is unknown, this machine has no such device, or it has no float64.
    """
    if device is None:
        return None
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be the name of a device such as 'cpu' or 'cuda:0', got {device!r}") from None
    if place.type == "mps":
        raise ValueError("device='mps' has no float64, without which picks are not exact; use device='cpu'")
    if place.type == "cuda":
        if not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"device={str(device)!r}: this machine has {_num_gpus()} such devices; leave device out, or 'cpu'"
            )
        return torch.device("cuda", torch.cuda.current_device() if place.index is None else place.index)
    return place


def _num_gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def as_rows(features: Features, name: str) -> Any:
    """Returns the array, or a list converted to one.

    Args:
        features (`Features`):
            (N, d) feature rows.
        name (`str`):
            The argument's name, for error messages.

    Raises:
        `ValueError`: If the array is not two-dimensional, is empty, or does not hold floats.
    """
    refuse_masked(features, name)
    if isinstance(features, KeptFeatures):
        features = features.array
    if isinstance(features, np.ndarray | Tensor):
        rows: Any = features if isinstance(features, Tensor | np.memmap) else _native(np.asarray(features))
    elif hasattr(features, "toarray"):
        raise ValueError(f"`{name}` is a sparse matrix; give it as an array: {name}.toarray()")
    elif isinstance(features, RowReader) and isinstance(features.dtype, np.dtype):
        rows = ReadRows(features)
    else:
        rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"`{name}` must be a matrix of feature rows (N, d), got shape {tuple(rows.shape)}")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(f"`{name}` is empty: shape {tuple(rows.shape)}")
    floats = rows.is_floating_point() if isinstance(rows, Tensor) else np.issubdtype(rows.dtype, np.floating)
    if not floats:
        raise ValueError(f"`{name}` must hold floats, got {rows.dtype}")
    if isinstance(rows, Tensor):
        return rows.detach()
    return MappedRows(rows) if isinstance(rows, np.memmap) and rows.filename is not None else rows


def _native(array: np.ndarray) -> np.ndarray:
    """Returns an array that PyTorch reads: a copy of one of another byte order, of long doubles, or read backwards."""
    is_long = array.dtype.kind == "f" and array.dtype.itemsize > 8
    dtype = np.dtype(np.float64) if is_long else array.dtype.newbyteorder("=")
    is_backwards = any(stride < 0 for stride in array.strides)
    return np.ascontiguousarray(array, dtype) if is_backwards or dtype != array.dtype else array


def check_row_numbers(numbers: Any, num_rows: int, name: str) -> list[int]:
    """Returns row numbers of the pool as a list.

    Args:
        numbers (`Sequence[int]`, `np.ndarray` or `Tensor`):
            Row numbers in any order.
        num_rows (`int`):
            N.
        name (`str`):
            The argument's name, for error messages.

    Raises:
        `ValueError`: If they are not whole numbers from 0 to N - 1, such as a boolean mask.
    """
    refuse_masked(numbers, name)
    array = np.asarray(numbers.cpu() if isinstance(numbers, Tensor) else numbers)
    if array.size == 0:
        return []
    # NumPy reads a list of whole numbers and booleans as whole numbers.
    has_booleans = isinstance(numbers, list | tuple) and any(isinstance(one, bool | np.bool_) for one in numbers)
    if array.dtype == bool or has_booleans:
        raise ValueError(f"{name} is a boolean mask; give row numbers: np.flatnonzero(mask)")
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must hold row numbers of the pool, got {numbers!r:.80}")
    outside = array[(array < 0) | (array >= num_rows)]
    if outside.size:
        raise ValueError(f"{name}: row {int(outside[0])} is not among the {num_rows} rows of the pool")
    row_numbers: list[int] = array.tolist()
    return row_numbers


def refuse_masked(values: Any, name: str) -> None:
    """Raises `ValueError` if a NumPy masked array hides values: every other function would read the hidden ones."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        places = np.argwhere(np.ma.getmaskarray(values))
        raise ValueError(
            f"{name} is a masked array that hides {len(places)} values (the first at {int(places[0, 0])}): "
            "leave those rows out, or give values for them"
        )


def check_widths(pool: Any, targets: Any) -> None:
    """Raises `ValueError` unless both arrays have rows of the same width."""
    if pool.shape[1] != targets.shape[1]:
        raise ValueError(
            f"`pool` rows have {pool.shape[1]} features and `targets` rows {targets.shape[1]}; "
            "embed both with the same embedder"
        )


def finite(rows: Any, name: str) -> Tensor:
    """Returns all rows as a tensor.

    Raises:
        `ValueError`: If a row holds NaN or infinity; the row is place.
    """
    values = rows if isinstance(rows, Tensor) else rows[:]
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(np.array(values, copy=True))
    bad = (~torch.isfinite(tensor).all(1)).nonzero()
    if len(bad):
        raise ValueError(
            f"row {int(bad[0])} of `{name}` holds NaN or infinity; embed it again or drop it before selecting"
        )
    return tensor
