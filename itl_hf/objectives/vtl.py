"""VTL, variance-based transductive learning: the pick whose answer removes most of the targets' total variance.

    v / (s + r),  v = sum over a in A of k_D(x, a)^2

with s = Var[f(x) | D], k_D the posterior covariance given the picks D, and r the noise variance of the row's answer.
With one target this is SIFT. Targets of weights w_a have sqrt(w_a) f(a) in place of f(a) in all of this: v is then the
sum of w_a k_D(x, a)^2. One pick with projections p, g = sum_a p(a)^2 and h(x) = sum_a k_D(x, a) p(a) lowers s by p(x)^2
and v by p(x) (2 h(x) - g p(x)). The bracket is kept as the pick's second projection.

Sources: Seo, Wallat, Graepel & Obermayer, "Gaussian Process Regression: Active Data Selection and Test Point Rejection"
(2000); Huebotter et al., "Transductive Active Learning: Theory and Applications" (2024); Huebotter, Bongni, Hakimi &
Krause, "Efficiently Learning at Test-Time: Active Fine-Tuning of LLMs" (ICLR 2025), section 3 (SIFT).
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.many_targets import stand_ins, triangle
from itl_hf.gp.posterior import LinearPosterior
from itl_hf.gp.quality import Quality, scale_rows
from itl_hf.objectives.base import ObservationBlock, ProjectionTables
from itl_hf.objectives.targeted import Targeted


class VTL(Targeted):
    """Fall of the targets' total variance, v / (s + r)."""

    name = "vtl"

    def __init__(self, gp: GaussianProcess) -> None:
        many = stand_ins(gp.targets, gp.target_weights) if gp.kernel.linear else None
        pivots = gp.reduced_targets()
        super().__init__(gp, pivots.rows if pivots is not None else many)
        self.num_projections = 2
        # Values of sqrt(w_a) f(a), or of functions with the same sum of squares, are combinations of those at
        # `target_rows`: by a matrix for pivots, otherwise by factors.
        self.combination: Tensor | None = None
        if pivots is not None:
            self.combination = pivots.combination(triangle(pivots.factor, gp.target_weights))  # (r, r)
        self.row_weights = gp.target_weights if self.target_rows is gp.targets else None
        self.scaled_targets = scale_rows(self.target_rows, self.row_weights)  # (m, d), for finite features
        weights = gp.target_weights
        self.weighted_prior = self.target_prior if weights is None else self.target_prior * weights  # (m,)
        if not self.uses_projection_cache:
            self.target_basis = self.scaled_targets

    def initial_state(self, rows: Tensor) -> tuple[Tensor, ProjectionTables]:
        """Statistics s and v, (2, B); where there are tables, the rows' kernel with the targets is one of them."""
        stats, cross = self.initial_state_with_target_cov(rows)
        return stats, [self.posteriors[0].given_projections(rows), cross] if self.uses_projection_cache else []

    def initial_state_with_target_cov(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics s and v, and the rows' kernel with the targets times sqrt(w), (2, B), (m, B)."""
        cross = self._combine(self.gp.kernel.cross(rows, self.target_rows.to(rows.dtype)).T)  # (m, B)
        return torch.stack([self.gp.kernel.diagonal(rows), cross.square().sum(0)]), cross

    def _combine(self, values: Tensor) -> Tensor:
        """Returns values of sqrt(w_a) f(a) from those at `target_rows`, (m, B) -> (m, B)."""
        if self.combination is None:
            return scale_rows(values, self.row_weights)
        return self.combination.to(values.dtype) @ values

    def observations(self, first: int, last: int) -> ObservationBlock:
        """Adds what 2 h - g p needs: for finite features its directions, otherwise g, p(A) and the inner products
        p_i(A).p_j(A) with earlier picks.
        """
        blocks = super().observations(first, last).cholesky_blocks
        scaled_projections = self._combine(self.target_projections[:last].T).T  # (last, m)
        new = scaled_projections[first:].clone()  # (b, m)
        gram = new @ scaled_projections.T  # (b, last), of which the diagonal from `first` on is g
        if isinstance(self.posteriors[0], LinearPosterior):
            weights = gram.tril(first).add_(gram.tril(first - 1))  # g once, earlier picks twice
            directions = self.posteriors[0].directions[:last]
            terms = [torch.addmm(new @ self.scaled_targets, weights, directions, beta=2, alpha=-1)]
        else:
            terms = [new.square().sum(1, keepdim=True), new, gram.tril_(first - 1)]
        return ObservationBlock(first, blocks, terms)

    def directions(self, observations: ObservationBlock) -> list[Tensor]:
        """Those of p and of 2 h - g p."""
        return [observations.cholesky_blocks[0].rows, observations.target_terms[0]]

    def project(self, rows: Tensor, tables: ProjectionTables, observations: ObservationBlock) -> Tensor:
        """`p` and 2 h - g p, (2, b, B)."""
        if not self.uses_projection_cache:
            return super().project(rows, tables, observations)
        projection = super().project(rows, tables[:1], observations)[0]
        squares, new, gram = observations.target_terms
        earlier = tables[0][: gram.shape[1] - len(new)]
        towards_targets = new @ tables[1] - gram @ torch.cat([earlier, projection])  # h
        return torch.stack([projection, 2 * towards_targets - squares * projection])

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """`s` falls by p^2, v by p (2 h - g p)."""
        return projections * projections[:1]

    def optimistic_stats(
        self, stats: Tensor, projections: Tensor, observations: ObservationBlock, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`s` is smallest at the end of a segment; v may rise, by the sum of its rises at most."""
        decrements = self.decrements(projections, observations)
        after = stats[:, None] - prefix_mask @ decrements
        before = torch.cat([stats[1:], after[1, :-1]])  # (c, B)
        segment_mask = torch.diff(prefix_mask, dim=0, prepend=torch.zeros_like(prefix_mask[:1]))
        return torch.stack([after[0], before - segment_mask @ decrements[1].clamp_max(0)]), after

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """`v / (s + r)`."""
        variance, explained_variance = stats
        return explained_variance.clamp_min(0) / (variance.clamp_min(0) + self.answer_noise(stats, quality))

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The score of the largest v with the smallest s."""
        variance, explained_variance = stats
        noise = self.answer_noise(stats, quality)
        return (explained_variance + slack[1]) / ((variance - slack[0]).clamp_min_(0) + noise)

    def error_scales(self, stats: Tensor) -> Tensor:
        """`s`, and for v its first value; a part of its error comes from products of numbers that are not small."""
        variance, explained_variance = stats
        mean_prior = self.weighted_prior.mean().to(variance.dtype)
        return torch.stack([variance, explained_variance + variance * mean_prior])
