"""Memoization of numbers that depend on a pool and a kernel alone, for selections from the same pool."""

from __future__ import annotations

from collections.abc import Callable

from itl_hf.gp.kernels import RBF, Cosine, ExponentialCosine, Kernel, Laplace, Linear
from itl_hf.gp.pool import Pool


def once_for_kernel(pool: Pool, kernel: Kernel, name: str, compute: Callable[[], float]) -> float:
    """Returns a number that depends on the pool and the kernel alone; it is computed once for a kernel whose settings
    are all in its description.

    Collective where `compute` is.

    Args:
        pool (`Pool`):
            The pool, which keeps the number.
        kernel (`Kernel`):
            The kernel. One of a user's own class is never looked up: its description may leave out settings.
        name (`str`):
            What the number is.
        compute (`Callable[[], float]`):
            Computes it.
    """
    if type(kernel) not in (Linear, Cosine, RBF, ExponentialCosine, Laplace):
        return compute()
    return pool.once((name, str(kernel.describe())), compute)
