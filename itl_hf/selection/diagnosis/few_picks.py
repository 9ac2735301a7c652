"""Says where a simpler method was measured to be better: many targets that matter equally, and few picks for each."""

from __future__ import annotations

from itl_hf.selection.diagnosis.diagnosable import Diagnosable

#: The losses of `recipes/benchmarks/README.md` (many pools) were measured with 44 targets and 2.2 picks for each, where
#: round-robin is ahead on some pools if the targets come from their tasks in equal shares, and with 8 targets and 12
#: picks for each, where it seldom is. The limits lie between.
FEWEST_TARGETS = 20
MOST_PICKS_PER_TARGET = 4.0


def few_picks_text(selection: Diagnosable) -> str | None:
    """Returns the advice to compare with round-robin, or `None` where there is no such measurement."""
    record, num_picks, num_targets = selection.record, len(selection.gains), selection.target_variance.shape[1]
    if record.acquisition_name != "itl" or record.undirected or record.target_weights is not None or num_picks == 0:
        return None
    if num_targets < FEWEST_TARGETS or num_picks > MOST_PICKS_PER_TARGET * num_targets:
        return None
    return (
        f"There are {num_picks / num_targets:.2g} picks for each target. In the benchmark with some 44 targets of four "
        'tasks and 96 picks, the nearest rows of each target in turn, acquisition="round_robin", gave a lower held-out '
        "loss than ITL on some pools if all tasks had equally many targets, and a higher one if some tasks had few. "
        "Compare both if all kinds of targets are about equally frequent."
    )
