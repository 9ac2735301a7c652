"""The defaults of kernel, preparation and noise. They are chosen without labels.

The rule for the noise and its derivation are in `itl_hf.gp.noise`; the kernel and the preparation are chosen here.

With the linear kernel, noise has two jobs: keep the picks on the task (large), and notice repetition (small).
With RBF, copies (k near 1), rows of the same task (k about a half) and other rows (k near q) have clearly different
kernel values, so that many near-duplicates in the pool, or a wrong noise, make its picks worse by less. Measured in
`recipes/benchmarks/kernel_and_noise.py` on 12 target sets, 16 to 512 picks, two kinds of features: lengthscales from
0.4 to 0.8 with the rule are the same within about a hundredth, and no fixed noise does clearly better. On pools without
near-duplicates the linear kernel with its rule is as good or up to a hundredth better, and large pools are streamed
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from itl_hf.gp.finite_kernel import check_finite, target_names
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Kernel, resolve_kernel
from itl_hf.gp.many_targets import pivot_targets
from itl_hf.gp.noise import auto_noise_std, effective_rank
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.protocol import Acquisition

#: Maps the picks per direction of the targets to a standard deviation of the noise and the rule in words.
NoiseMeasurement: TypeAlias = Callable[[float], tuple[float, str]]
#: The kernel of `kernel="auto"`.
AUTO_KERNEL = RBF(0.6)
#: The preparation of `standardize=True`. A few dimensions carry most of the norm of hidden states, and one token (the
#: first, which attention uses as a sink) carries most of their mean: with one factor for all dimensions, ITL would pick
#: by text length.
AUTO_STANDARDIZATION = Standardization("dimensions", unit=True)


@dataclass(frozen=True)
class KernelSpec:
    """Kernel and preparation of the features of one selection.

    Args:
        kernel (`Kernel`):
            The covariance function.
        standardization (`Standardization`, *optional*):
            What is done to the features first; nothing if `None`.
        rule (`str`):
            `"given"`, or how the kernel was chosen.
    """

    kernel: Kernel
    standardization: Standardization | None
    rule: str

    def gaussian_process(
        self,
        acquisition: Acquisition,
        targets: Tensor,
        num_examples: int,
        weights: Tensor | None = None,
        measured_noise: NoiseMeasurement | None = None,
    ) -> tuple[GaussianProcess, dict[str, Any]]:
        """The Gaussian process with its noise, and how the noise was found, as entries of a `SelectionRecord`.

        Args:
            acquisition (`Acquisition`):
                Has the noise, or leaves it to `auto_noise_std`.
            targets (`Tensor`):
                (m, d) prepared target rows.
            num_examples (`int`):
                Picks to make.
            weights (`Tensor`, *optional*):
                (m,) weights of the targets.
            measured_noise (`Callable`, *optional*):
                Maps the picks per direction to the noise of `noise_std="measured"` and the rule in words.

        Raises:
            `ValueError`: If the noise is to be measured and nothing measures it.
        """
        noise_std, rule = acquisition.noise_std, "given"
        check_finite(self.kernel.diagonal(targets)[:, None], self.kernel, target_names(), lambda _: "itself")
        pivots = pivot_targets(self.kernel, targets, weights)
        rank = effective_rank(targets, self.kernel, weights, pivots)
        if noise_std == "auto":
            noise_std, rule = auto_noise_std(self.kernel, targets, num_examples, weights, rank)
        elif noise_std == "measured":
            if measured_noise is None:
                raise ValueError("noise_std='measured' needs one selection for all targets; give a number, or 'auto'")
            noise_std, rule = measured_noise(num_examples / rank)
        target_noise_std = noise_std if acquisition.target_noise_std is None else acquisition.target_noise_std
        gp = GaussianProcess(self.kernel, targets, float(noise_std), float(target_noise_std), weights, pivots)
        return gp, {"noise_rule": rule, "effective_rank": rank}


def resolve_kernel_spec(kernel: Any, standardize: bool | str | Standardization) -> KernelSpec:
    """Returns the kernel and the preparation that were asked for, or the defaults.

    Args:
        kernel (`str`, `Kernel` or `Callable`):
            `"auto"`, a name, an object or a function.
        standardize (`bool`, `str` or `Standardization`):
            `True` for `AUTO_STANDARDIZATION`, `False` for none, a name, or an object.

    Raises:
        `ValueError`: If a name is unknown.
    """
    auto = isinstance(kernel, str) and kernel == "auto"
    if standardize is True:
        standardization: Standardization | None = AUTO_STANDARDIZATION
    elif isinstance(standardize, Standardization):
        standardization = standardize
    else:
        standardization = None if standardize is False else Standardization.parse(standardize)
    return KernelSpec(AUTO_KERNEL if auto else resolve_kernel(kernel), standardization, "auto" if auto else "given")
