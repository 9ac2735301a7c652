"""What the theory says about one selection: how far the targets' variance has fallen towards its floor, and confidence
widths. `itl_hf.gp.attainable` computes the floor.

Sources: Huebotter et al., "Transductive Active Learning: Theory and Applications" (2024), for the floor and the fall
towards it; Abbasi-Yadkori, Pal & Szepesvari, "Improved Algorithms for Linear Stochastic Bandits" (2011), theorem 2, for
the confidence bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.attainable import AttainableVariance, attainable_variance
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel, gram_matrix
from itl_hf.gp.pool import Pool
from itl_hf.gp.posterior import check_noise_std
from itl_hf.gp.quality import Quality, each, join, scale_gram, scale_rows

__all__ = [
    "Convergence",
    "confidence_factor",
    "convergence",
    "information_gain",
    "posterior_mean",
]


def information_gain(picks: Tensor, gp: GaussianProcess, quality: Quality = 1.0) -> Tensor:
    """Computes the information that the answers to the first 0..n picks give about f: gamma_n = 1/2 log det(I + K /
    noise^2), with each pick's own noise where picks differ in quality.

    By the chain rule it is the sum of 1/2 log(1 + variance / noise^2), variance taken just before each pick.

    Args:
        picks (`Tensor`):
            (n, d) prepared rows in the order picked.
        gp (`GaussianProcess`):
            Kernel and noise.
        quality (`Quality`, *optional*, defaults to 1.0):
            (n,), that of the picks.

    Returns:
        `Tensor`: (n + 1,) float64, in nats.
    """
    return _observe(picks, gp, quality)[0]


@dataclass(frozen=True)
class Convergence:
    """Variance and information after 0..n picks of a selection, ready to plot.

    Args:
        target_variance (`Tensor`):
            (n + 1, m) float64, variance of f at each target after 0..n picks.
        information (`Tensor`):
            (n + 1,) float64, `information_gain` in nats; that of rows observed before the picks is included.
        attainable (`AttainableVariance`):
            The floors that `target_variance` falls towards.
    """

    target_variance: Tensor
    information: Tensor
    attainable: AttainableVariance

    @property
    def total(self) -> Tensor:
        """(n + 1,), variance summed over targets; its floor is `attainable.irreducible.sum()`."""
        return self.target_variance.sum(1)

    @property
    def reducible(self) -> Tensor:
        """(n + 1, m), variance above the irreducible part: what further picks from this pool may still remove."""
        return (self.target_variance - self.attainable.irreducible).clamp_min(0)

    def width(self, norm_bound: float, delta: float = 0.05, noise_ratio: float = 1.0) -> Tensor:
        """Computes the confidence width beta_n(delta) sigma_n(a) after 0..n picks, (n + 1, m); arguments as in
        `confidence_factor`.
        """
        factor = confidence_factor(self.information, norm_bound, delta, noise_ratio)
        return factor[:, None] * self.target_variance.sqrt()


def convergence(
    pool: Pool,
    picks: Sequence[int],
    gp: GaussianProcess,
    *,
    observed_rows: Tensor | None = None,
    observed_quality: Quality = 1.0,
    attainable: AttainableVariance | None = None,
) -> Convergence:
    """Computes the targets' variance and the information after every pick, and the floors of the variance.

    Args:
        pool (`Pool`):
            The pool.
        picks (`Sequence[int]`):
            Row numbers in the order picked.
        gp (`GaussianProcess`):
            Kernel, targets and noise.
        observed_rows (`Tensor`, *optional*):
            (h, d) prepared rows that were trained on before.
        observed_quality (`Quality`, *optional*, defaults to 1.0):
            (h,), their quality.
        attainable (`AttainableVariance`, *optional*):
            From `attainable_variance`; measured here when left out.
    """
    if attainable is None:
        attainable = attainable_variance(
            pool, gp, include=picks, observed_rows=observed_rows, observed_quality=observed_quality
        )
    before = gp.targets.new_zeros(0, pool.dimension) if observed_rows is None else observed_rows.double()
    rows = torch.cat([before, pool.rows(list(picks))])  # (h + n, d)
    quality = join([(observed_quality, len(before)), (pool.quality_of(picks), len(picks))])
    information, projections = _observe(rows, gp, quality)
    removed_variance = torch.cat(
        [torch.zeros_like(attainable.prior)[None], projections.square().cumsum(0)]
    )  # (h + n + 1, m)
    variance = (attainable.prior - removed_variance).clamp_min(0)
    return Convergence(variance[len(before) :], information[len(before) :], attainable)


def posterior_mean(
    picks: Tensor, values: Tensor, rows: Tensor, kernel: Kernel, noise_std: float, quality: Tensor | None = None
) -> Tensor:
    """Computes the posterior mean of f at `rows` given `values` at the picks: mu_n(x) = k(x, D) (K + noise^2 Q^-1)^-1
    y, with Q the diagonal matrix of the picks' quality.

    Args:
        picks (`Tensor`):
            (n, d) prepared rows.
        values (`Tensor`):
            (n,) numbers observed there, or (n, c) for c functions at once.
        rows (`Tensor`):
            (B, d) prepared rows to predict at.
        kernel (`Kernel`):
            Covariance function.
        noise_std (`float`):
            Noise of the values. Positive.
        quality (`Tensor`, *optional*):
            (n,), that of the picks; 1 when left out.

    Returns:
        `Tensor`: (B,) or (B, c) float64.

    Raises:
        `ValueError`: If there is not one value for each pick, or the noise is not positive.

    Example:
        >>> from itl_hf.gp.kernels import Linear
        >>> posterior_mean(torch.eye(2), torch.tensor([2.0, 4.0]), torch.eye(2), Linear(), 1.0)
        tensor([1., 2.], dtype=torch.float64)
    """
    if values.ndim not in (1, 2) or len(values) != len(picks):
        raise ValueError(f"`values` has shape {tuple(values.shape)}; expected ({len(picks)},) or ({len(picks)}, c)")
    noise_variance = check_noise_std(noise_std) ** 2
    picks, rows = picks.double(), rows.double()
    # Eigenvalues rather than a Cholesky factor: repeated picks with a tiny noise are singular to rounding.
    energy, vectors = torch.linalg.eigh(scale_gram(gram_matrix(picks, kernel), quality))  # (n,), (n, n)
    values = values.double()
    value_columns = values if values.ndim == 2 else values[:, None]  # (n, c)
    value_columns = scale_rows(value_columns, quality)
    weights = (vectors.T @ value_columns) / (energy.clamp_min(0) + noise_variance)[:, None]  # (n, c)
    mean = kernel.cross(rows, picks) @ scale_rows(vectors @ weights, quality)  # (B, c)
    return mean if values.ndim == 2 else mean[:, 0]


def confidence_factor(information: Tensor, norm_bound: float, delta: float = 0.05, noise_ratio: float = 1.0) -> Tensor:
    """Computes beta_n(delta) = B + r sqrt(2 (gamma_n + log(1 / delta))).

    With probability 1 - delta, |f(x) - mu_n(x)| <= beta_n sigma_n(x) at every x and n at once, for every f whose norm
    in the kernel's function space is at most B. Chowdhury & Gopalan (2017) and what follows them write the noise itself
    in place of r; that is for posteriors regularised by about 1. Here sigma_n is regularised by the noise variance,
    the factor has no unit, and with their form the bound would fail for noises below 1.

    Args:
        information (`Tensor`):
            gamma_n, from `information_gain`; any shape.
        norm_bound (`float`):
            B, 0 or positive.
        delta (`float`, *optional*, defaults to 0.05):
            Probability that the bound fails somewhere, in (0, 1).
        noise_ratio (`float`, *optional*, defaults to 1.0):
            r, standard deviation of the values' real noise (Gaussian or lighter-tailed) over the `noise_std` of the
            selection, which is a setting and may differ from it.

    Raises:
        `ValueError`: If a number is out of its range.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    for name, value in (("norm_bound", norm_bound), ("noise_ratio", noise_ratio)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be 0 or positive and finite, got {value}")
    return norm_bound + noise_ratio * (2 * (information + math.log(1 / delta))).sqrt()


def _observe(rows: Tensor, gp: GaussianProcess, quality: Quality) -> tuple[Tensor, Tensor]:
    """Returns the information after 0..n of the rows, (n + 1,), and the targets' projections on each row, (n, m)."""
    rows = rows.double()
    posterior = gp.posterior()
    for row, row_quality in zip(rows, each(quality, len(rows)), strict=True):
        posterior.observe(row, row_quality)
    earlier = posterior.projections(rows).square().triu(1)  # (n, n): column i holds those on the rows before i
    variance = (gp.kernel.diagonal(rows) - earlier.sum(0)).clamp_min(0)
    gains = torch.log1p(variance / (posterior.noise_variance / quality)) / 2
    return torch.cat([gains.new_zeros(1), gains]).cumsum(0), posterior.projections(gp.targets)
