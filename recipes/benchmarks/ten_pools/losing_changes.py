"""ITL over the whole pool, its rival round-robin, and ITL with one part changed at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from itl_hf import select_rows
from itl_hf.gp.kernels import RBF, ExponentialCosine, Kernel, Linear
from itl_hf.selection.registry import resolve_acquisition
from itl_hf.selection.row_selection import RowSelection
from recipes.benchmarks.fine_tuning.picking import resolve_options


@dataclass(frozen=True)
class Change:
    """A method that differs from ITL over the whole pool in one part.

    Args:
        name (`str`):
            Name in the results.
        part (`str`):
            The part that differs: `"kernel"`, `"noise"`, `"target noise"`, `"preparation"`, `"shortlist"` or
            `"objective"`; empty for ITL and round-robin.
        acquisition (`str`, *optional*, defaults to `"itl"`):
            Name of the acquisition.
        kernel (`Kernel`, *optional*):
            Kernel, whose noise follows its own rule. By default that of `select_rows`.
        noise_factor (`float`, *optional*, defaults to 1.0):
            Factor of the noise variance of picks and targets that the rule gives for ITL.
        target_noise_std (`float`, *optional*):
            Noise of the targets. By default that of the picks.
        options (`dict`):
            Further arguments of `select_rows`. `"1.5n"` stands for that many times the number of picks.
    """

    name: str
    part: str
    acquisition: str = "itl"
    kernel: Kernel | None = None
    noise_factor: float = 1.0
    target_noise_std: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """All settings as JSON, so that results of another definition are not taken for this one's."""
        settings = {
            "acquisition": self.acquisition,
            "kernel": None if self.kernel is None else self.kernel.describe(),
            "noise_factor": self.noise_factor,
            "target_noise_std": self.target_noise_std,
            **self.options,
        }
        return json.dumps(settings, sort_keys=True)

    def select(
        self, rows: np.ndarray, targets: np.ndarray, num_picks: int, noise_std: float | None = None
    ) -> RowSelection:
        """Picks rows.

        Args:
            rows (`np.ndarray`):
                (N, d) features of the pool.
            targets (`np.ndarray`):
                (m, d) features of the targets.
            num_picks (`int`):
                Number of picks.
            noise_std (`float`, *optional*):
                Noise of ITL by the rule, for a change that has a factor of it.

        Raises:
            `ValueError`: If the change has a factor of the noise and `noise_std` is left out.
        """
        if self.noise_factor != 1 and noise_std is None:
            raise ValueError(f"{self.name!r} changes ITL's noise by a factor: pass noise_std, the noise of ITL")
        acquisition = resolve_acquisition(
            self.acquisition,
            noise_std=None if self.noise_factor == 1 or noise_std is None else noise_std * self.noise_factor**0.5,
            target_noise_std=self.target_noise_std,
        )
        options = resolve_options({"shortlist": None, **self.options}, num_picks)
        kernel: Any = "auto" if self.kernel is None else self.kernel
        return select_rows(rows, targets, num_picks, acquisition=acquisition, kernel=kernel, **options)


ITL = Change("itl", "")
ROUND_ROBIN = Change("round-robin", "", "round_robin")
CHANGES = (
    Change("linear kernel", "kernel", kernel=Linear()),
    Change("RBF, lengthscale 0.3", "kernel", kernel=RBF(0.3)),
    Change("exponential cosine", "kernel", kernel=ExponentialCosine()),
    Change("noise variance x 1/3", "noise", noise_factor=1 / 3),
    Change("noise variance x 3", "noise", noise_factor=3.0),
    Change("target noise 0", "target noise", target_noise_std=0.0),
    Change("one factor for all dimensions", "preparation", options={"standardize": "scale"}),
    Change("whitening, 128 directions", "preparation", options={"standardize": "whiten-128"}),
    Change("shortlist 1.25 n", "shortlist", options={"shortlist": "1.25n"}),
    Change("shortlist 1.5 n", "shortlist", options={"shortlist": "1.5n"}),
    Change("shortlist 2 n", "shortlist", options={"shortlist": "2n"}),
    Change("mean-marginal ITL", "objective", "mean_marginal_itl"),
    Change("VTL", "objective", "vtl"),
)
