"""The defaults of kernel, preparation and noise. They are chosen without labels.

The noise, derived. After k picks from a cluster of rows with correlation r to each other and to their target, the next
of them has covariance r (1 - r + noise) / (1 - r + noise + k r) with the target; a row outside it has q all along. So
the cluster goes on winning while k < (noise + 1 - r)(1 / q - 1 / r), with `noise` the variance. It should go on for its
share of the n picks, k = n / rank, with the effective rank of the targets under the kernel for the number of clusters.

- *RBF, Laplace.* Rows that have nothing in common are orthogonal, q = k(cos = 0), and those of a cluster have r near 1:
  noise = (n / rank) / (1 / q - 1). The shorter the lengthscale, the less noise it takes: kernel and noise no longer
  pull on one dial. Never below 1, where one answer halves the variance of its own place: with less, a few picks settle
  a target for good and the search wanders off.
- *Linear, cosine.* Covariance with unrelated rows is 0 on average but not for the nearest of many; q = r / 2 stands for
  those, which gives noise = n / rank.

The kernel. With the linear one, noise has two jobs: keep the picks on the task (large), and notice repetition (small).
RBF tells rows that repeat (k near 1) from rows of the same task (k of a half) from the rest (k near q), so a pool full
of near-duplicates costs it less, and a wrong noise less too. Measured in `recipes/benchmarks/kernel_and_noise.py` on
12 target sets, 16 to 512 picks, two kinds of features: lengthscales from 0.4 to 0.8 with the rule are the same within
about a hundredth, and no fixed noise does clearly better. What it is not: on pools without near-duplicates the linear
kernel with its rule is as good or up to a hundredth better, and it is the one that streams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Cosine, Kernel, Laplace, resolve_kernel
from itl_hf.gp.noise import effective_rank, picks_per_direction
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.protocol import Acquisition

#: The kernel of `kernel="auto"`.
AUTO_KERNEL = RBF(0.6)
#: The least noise of kernels that fall off with distance, and that of kernels about which nothing is known.
UNIT_NOISE_STD = 1.0
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
        self, acquisition: Acquisition, targets: Tensor, num_examples: int
    ) -> tuple[GaussianProcess, dict[str, Any]]:
        """The Gaussian process with its noise, and how the noise was found, as entries of a `SelectionRecord`.

        Args:
            acquisition (`Acquisition`):
                Has the noise, or leaves it to `auto_noise_std`.
            targets (`Tensor`):
                (m, d) prepared target rows.
            num_examples (`int`):
                Picks to make.
        """
        noise_std, rule = acquisition.noise_std, "given"
        if noise_std == "auto":
            noise_std, rule = auto_noise_std(self.kernel, targets, num_examples)
        target_noise_std = noise_std if acquisition.target_noise_std is None else acquisition.target_noise_std
        gp = GaussianProcess(self.kernel, targets, float(noise_std), float(target_noise_std))
        return gp, {"noise_rule": rule, "effective_rank": effective_rank(targets, self.kernel)}


def auto_noise_std(kernel: Kernel, targets: Tensor, num_examples: int) -> tuple[float, str]:
    """The noise standard deviation for `noise_std="auto"`, and the rule in words.

    Args:
        kernel (`Kernel`):
            Covariance in use.
        targets (`Tensor`):
            (m, d) prepared target rows.
        num_examples (`int`):
            Picks to make.

    Example:
        >>> import torch
        >>> auto_noise_std(RBF(0.6), torch.eye(4, dtype=torch.float64), 4)[0]  # one pick each: the least noise
        1.0
    """
    if kernel.linear or isinstance(kernel, Cosine):
        noise_std = picks_per_direction(targets, num_examples, kernel)
        return noise_std, "auto: sqrt(num_examples / effective rank of the targets)"
    if not isinstance(kernel, RBF | Laplace):
        return UNIT_NOISE_STD, "auto: 1, since nothing is known about this kernel"
    orthogonal_rows = torch.eye(2, dtype=torch.float64)
    unrelated_covariance = float(kernel.cross(orthogonal_rows, orthogonal_rows)[0, 1])
    contrast = 1 / max(unrelated_covariance, 1e-12) - 1
    noise_std = max(UNIT_NOISE_STD, picks_per_direction(targets, num_examples, kernel) / math.sqrt(contrast))
    return noise_std, (
        "auto: sqrt(num_examples / effective rank of the targets / (1 / q - 1)), at least 1, "
        f"q = k(unrelated rows) = {unrelated_covariance:.3g}"
    )


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
