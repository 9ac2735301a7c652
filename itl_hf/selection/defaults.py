"""What happens when nobody says: kernel, preparation and noise, chosen without labels.

Measurements: `recipes/benchmarks/README.md`, "Kernel and noise".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itl_hf.gp.kernels import Kernel, Linear, resolve_kernel
from itl_hf.gp.noise import effective_rank, picks_per_direction
from itl_hf.gp.objectives import Setting
from itl_hf.gp.preparation import MODES, Standardize
from itl_hf.selection.acquisitions import Acquisition

#: What `kernel="auto"` stands for, and the noise that goes with kernels for which k(x, x) = 1 and unrelated rows have k
#: near 0.
AUTO_KERNEL = Linear()
UNIT_NOISE_STD = 1.0


@dataclass(frozen=True)
class Model:
    """Kernel and preparation of one selection."""

    kernel: Kernel
    standardize: Standardize | None
    components: int | None
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
        return {**self.kernel.describe(), "kernel_chosen": self.chosen, "standardize": self.standardize}


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
    mode, components = _parse(standardize, resolved)
    return Model(resolved, mode, components, "auto" if auto else "given")


def _parse(standardize: bool | str, kernel: Kernel) -> tuple[Standardize | None, int | None]:
    if standardize is False:
        return None, None
    if standardize is True:
        return ("scale" if kernel.linear else "dimensions"), None
    mode, _, components = standardize.partition("-")
    if mode not in MODES or (components and (mode != "whiten" or not components.isdigit() or int(components) < 1)):
        raise ValueError(f"unknown standardize {standardize!r}; known: True, False, {', '.join(MODES)}, whiten-64")
    return mode, int(components) if components else None  # type: ignore[return-value]
