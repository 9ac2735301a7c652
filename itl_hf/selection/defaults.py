"""What happens when nobody says: kernel, preparation and noise, chosen without labels.

Measurements: `recipes/benchmarks/README.md`, "Kernel and noise".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itl_hf.gp.kernels import RBF, Kernel, resolve_kernel
from itl_hf.gp.noise import effective_rank, picks_per_direction
from itl_hf.gp.objectives import Setting
from itl_hf.gp.preparation import Standardization
from itl_hf.selection.acquisitions import Acquisition

#: What `kernel="auto"` stands for, and the noise that goes with kernels for which k(x, x) = 1 and unrelated rows have k
#: near 0.
AUTO_KERNEL = RBF(0.4)
UNIT_NOISE_STD = 1.0
#: What `standardize=True` stands for. A few dimensions carry most of the norm of hidden states, and one token (the
#: first,
#: which attention uses as a sink) most of their mean: with one factor for all dimensions, ITL would pick by text
#: length.
AUTO_STANDARDIZATION = Standardization("dimensions", unit=True)


@dataclass(frozen=True)
class Model:
    """Kernel and preparation of one selection."""

    kernel: Kernel
    standardize: Standardization | None
    chosen: str

    def setting(self, acquisition: Acquisition, targets: Tensor, num_examples: int) -> tuple[Setting, dict[str, Any]]:
        """The Gaussian process with its noise, and for the record how the noise was found.

        The linear kernel takes sqrt(num_examples / effective rank of the targets), see
        `itl_hf.gp.noise.picks_per_direction`.
        """
        rank = effective_rank(targets, self.kernel)
        if acquisition.noise_std != "auto":
            noise_std, rule = float(acquisition.noise_std), "given"
        elif self.kernel.linear:
            noise_std = picks_per_direction(targets, num_examples)
            rule = "auto: sqrt(num_examples / effective rank of the targets)"
        else:
            noise_std, rule = UNIT_NOISE_STD, "auto: 1 for kernels that fall off with distance"
        given = acquisition.target_noise_std
        setting = Setting(self.kernel, targets, noise_std, noise_std if given is None else float(given))
        return setting, {"rule": rule, "effective_rank": rank}

    def describe(self) -> dict[str, Any]:
        """For the record, JSON types."""
        return {**self.kernel.describe(), "kernel_chosen": self.chosen, "standardize": str(self.standardize or "none")}


def resolve_model(kernel: Any, standardize: bool | str) -> Model:
    """Kernel and preparation as asked for, or as chosen here.

    Args:
        kernel (`str`, `Kernel` or `Callable`): `"auto"`, a name, an object or a function.
        standardize (`bool` or `str`): `True` for what suits the kernel.

    Raises:
        `ValueError`: unknown names.
    """
    auto = isinstance(kernel, str) and kernel == "auto"
    resolved = AUTO_KERNEL if auto else resolve_kernel(kernel)
    if standardize is True:
        how: Standardization | None = AUTO_STANDARDIZATION
    else:
        how = None if standardize is False else Standardization.parse(standardize)
    return Model(resolved, how, "auto" if auto else "given")
