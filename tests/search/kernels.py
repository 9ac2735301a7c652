"""Every kernel, for the tests that hold all of them to the same."""

from __future__ import annotations

from itl_hf.gp.kernels import RBF, Cosine, ExponentialCosine, Laplace, Linear, Sum, resolve_kernel

KERNELS = {
    "linear": Linear(),
    "cosine": Cosine(),
    "rbf": RBF(0.4),
    "rbf distance": RBF(1.0, on="distance"),
    "exponential cosine": ExponentialCosine(0.6),
    "laplace": Laplace(0.8),
    "sum": Sum([Linear(), RBF(0.3)], [0.5, 2.0]),
    "callable": resolve_kernel(lambda rows, others: (1 + rows @ others.T) ** 2),
}
