"""A speculated run as a pass verifies it, and which rows might be picked instead of one of its picks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality
from itl_hf.objectives.base import Objective, ObservationBlock
from itl_hf.search.candidates import Candidates, Run
from itl_hf.search.limits import Limits, OpenRows, upload

#: Picks that share one bound of a row's score. A bound for more picks is less work and lets more rows through.
SEGMENT_PICKS = 8
#: Steps that are computed together: few operations on many numbers, while they still fit in the processor's cache.
STEPS_AT_ONCE = 8
#: On a device all steps of a run are, up to so many numbers.
DEVICE_NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Verification:
    """A speculated run that every block verifies in one pass: which of its rows might beat a pick of the run?

    All tensors are on the device, and all floating-point ones in the precision of the pass.

    Args:
        objective (`Objective`):
            Scores and their bounds.
        limits (`Limits`):
            Computes which rows could be picked at each step.
        open_rows (`OpenRows`):
            Which rows could be.
        is_open (`Tensor`):
            (N,) bool, rows that may be picked and are no candidates; candidates were compared in the run itself.
        pick_indices (`Tensor`):
            (b,) int64 row numbers of the run's picks.
        scores (`Tensor`):
            (b,), exact score of each pick at its step.
        margins (`Tensor`):
            (b,), how far below it a score counts as equal.
        lowest_of_segments (`Tensor`):
            (c,), the lowest score that counts as equal to one of each segment of picks.
        prefix_mask (`Tensor`):
            (c, b), row i is 1 for all picks up to the end of segment i, else 0.
        num_before (`int`):
            Number of picks before the run.
        error (`Tensor`):
            (k,), how far each statistic may be off, relative to its scale.
    """

    objective: Objective
    limits: Limits
    open_rows: OpenRows
    is_open: Tensor
    pick_indices: Tensor
    scores: Tensor
    margins: Tensor
    lowest_of_segments: Tensor
    prefix_mask: Tensor
    num_before: int
    error: Tensor

    @classmethod
    def from_run(
        cls,
        objective: Objective,
        limits: Limits,
        is_free: Tensor,
        candidates: Candidates,
        run: Run,
        num_before: int,
        error: Tensor,
        dtype: torch.dtype,
    ) -> Verification:
        """Builds it from a run among candidates, with all numbers of the run in one copy to the device.

        `is_free` are the (N,) bool rows not picked yet, `error` is on the CPU, `dtype` the precision of the pass.
        """
        device, num_steps = is_free.device, len(run.positions)
        scores, margins = (torch.tensor(numbers, dtype=torch.float64) for numbers in (run.scores, run.margins))
        ends = torch.arange(0, num_steps, SEGMENT_PICKS) + SEGMENT_PICKS  # (c,)
        segments = (scores - margins).split(SEGMENT_PICKS)
        numbers = torch.cat([scores, margins, error, *(part.min()[None] for part in segments)])
        mask = (torch.arange(num_steps) < ends[:, None]).to(dtype)  # (c, b)
        parts = upload(numbers.to(dtype), device).split([num_steps, num_steps, len(error), len(segments)])
        is_open = is_free.index_fill(0, candidates.indices, False)
        return cls(
            objective=objective,
            limits=limits,
            open_rows=run.open_rows,
            is_open=is_open,
            pick_indices=candidates.indices[upload(torch.tensor(run.positions), device)],
            scores=parts[0],
            margins=parts[1],
            lowest_of_segments=parts[3],
            prefix_mask=upload(mask, device),
            num_before=num_before,
            error=parts[2],
        )


def find_suspects(
    verification: Verification,
    indices: Tensor,
    quality: Quality,
    slack: Tensor,
    stats: Tensor,
    projections: Tensor,
    observations: ObservationBlock,
) -> tuple[Tensor, int]:
    """Finds the first step of the run at which each of some rows might be picked instead.

    Args:
        verification (`Verification`):
            The run.
        indices (`Tensor`):
            (V,) row numbers.
        quality (`Quality`):
            (V,), that of the rows.
        slack (`Tensor`):
            (k, V), how far the rows' statistics may be off.
        stats (`Tensor`):
            (k, V), the rows' statistics before the run.
        projections (`Tensor`):
            (q, b, V), the rows' projections on the run's picks.
        observations (`ObservationBlock`):
            The run's picks.

    Returns:
        `tuple`: (V, 2) int64 on the CPU, row number and first step of those that reach one before the run ends; and
            after how many steps it ends.
    """
    objective, num_steps, on_cpu = verification.objective, projections.shape[1], indices.device.type == "cpu"
    if not len(indices):
        return torch.zeros(0, 2, dtype=torch.int64), num_steps
    first_steps, ends = torch.full_like(indices, num_steps), [indices.new_full((1,), num_steps)]
    size, step = _steps_at_once(objective, stats, on_cpu), 0
    while step < num_steps:
        part = observations.part(step, min(step + size, num_steps))
        trajectory = objective.trajectory(stats, projections[:, step : step + size], part)
        may_win, wins = _compare(verification, indices, quality, slack, trajectory, step)  # (size, V) each
        if wins is not None:
            first_steps = first_steps.minimum(_first_true(may_win, 0, step, num_steps))
            ends.append(_first_true(wins.any(1), 0, step + 1, num_steps)[None])
            if on_cpu and int(ends[-1]) < num_steps:
                break
        stats = trajectory[:, -1]
        step += size
    # In one copy: on a device the host waits for it.
    numbers = torch.cat([torch.cat(ends).amin(0, keepdim=True), indices, first_steps]).cpu()
    end, suspects = int(numbers[0]), numbers[1:].view(2, -1).T  # (V, 2)
    return suspects[suspects[:, 1] < end], end


def _steps_at_once(objective: Objective, stats: Tensor, on_cpu: bool) -> int:
    """Returns how many steps to compute together for rows with these statistics, (k, V)."""
    if not objective.additive:
        return 1
    return STEPS_AT_ONCE if on_cpu else max(STEPS_AT_ONCE, DEVICE_NUMBERS_AT_ONCE // stats.numel())


def _first_true(flags: Tensor, dimension: int, offset: int, otherwise: int) -> Tensor:
    """Returns the place of the first `True` along a dimension plus `offset`, or `otherwise` where there is none."""
    return torch.where(flags.any(dimension), offset + flags.byte().argmax(dimension), otherwise)


def _compare(
    verification: Verification, indices: Tensor, quality: Quality, slack: Tensor, trajectory: Tensor, step: int
) -> tuple[Tensor, Tensor | None]:
    """Compares rows with the run's picks at the steps from `step` on.

    Args:
        verification (`Verification`):
            The run.
        indices (`Tensor`):
            (V,) row numbers.
        quality (`Quality`):
            (V,), that of the rows.
        slack (`Tensor`):
            (k, V), how far the rows' statistics may be off.
        trajectory (`Tensor`):
            (k, s + 1, V), the rows' statistics before each step and after the last.
        step (`int`):
            The first of the s steps.

    Returns:
        `tuple`: Which rows might be picked instead at each step, (s, V) bool; and which of them beat the pick even at
            the low end of their error, `None` if there are none of the former.
    """
    objective, size = verification.objective, trajectory.shape[1] - 1
    num_before, end = verification.num_before + step, step + size
    stats, slack = (trajectory[:, :-1], slack[:, None]) if objective.additive else (trajectory[:, 0], slack)
    bound = objective.upper_bound(stats, slack, num_before, quality).reshape(size, -1)  # (s, V)
    score = verification.scores[step:end, None]  # (s, 1)
    margin = verification.margins[step:end, None]
    # An equal row wins only with a lower number.
    is_lower = indices < verification.pick_indices[step:end, None]
    may_win = (bound > score) | ((bound >= score - margin) & is_lower)
    is_open = verification.limits.mask(verification.open_rows.part(step, end), indices)
    if is_open is not None:
        may_win &= is_open
    if may_win.device.type == "cpu" and not bool(may_win.any()):
        return may_win, None
    lower_bound = objective.upper_bound(stats, -slack, num_before, quality).reshape(size, -1)
    return may_win, (lower_bound > score + margin) & may_win
