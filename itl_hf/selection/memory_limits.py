"""Refuses selections whose results or statistics would not fit in memory, before any work.

A row that is picked again is a pick of its own, so with `replace=True` the number of picks has no bound in the pool.
"""

from __future__ import annotations

import os

from itl_hf import distributed
from itl_hf.selection.protocol import Acquisition

#: Share of the machine's memory that the numbers of one selection may take.
MEMORY_SHARE = 0.5
#: Acquisitions that keep a number for every pair of a row and a target.
PAIRWISE = ("ctl", "mean_marginal_itl")


def machine_bytes() -> int:
    """Returns the size of this machine's memory; 16 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 16 * 2**30


def check_memory_per_target(num_examples: int, num_targets: int, num_candidates: int) -> None:
    """Raises `ValueError` if so many picks for each target would not fit in memory; see `check_memory`."""
    limit = int(MEMORY_SHARE * machine_bytes())
    # Results; then, for one target at a time, projections of the candidates and covariances of three rows a pick.
    num_bytes = 8 * num_examples * (5 * num_targets + 2 * num_candidates + 6 * num_examples)
    if num_bytes > limit:
        raise ValueError(
            f"num_examples={num_examples} picks for each of {num_targets} targets take about "
            f"{num_bytes / 2**30:.0f} GiB, more than the {limit / 2**30:.0f} GiB that a selection may use here: pick "
            "fewer rows, or select for some targets at a time"
        )


def check_memory(acquisition: Acquisition, num_examples: int, num_rows: int, num_targets: int, dimension: int) -> None:
    """Raises `ValueError` if the picks' numbers, or those of pairs of rows and targets, would not fit in memory.

    Args:
        acquisition (`Acquisition`):
            What is maximised.
        num_examples (`int`):
            Rows to pick.
        num_rows (`int`):
            N.
        num_targets (`int`):
            m.
        dimension (`int`):
            Features of a row.
    """
    limit = int(MEMORY_SHARE * machine_bytes())
    of_picks = 8 * num_examples * (3 * dimension + 4 * num_targets)
    if of_picks > limit:
        most = max(limit // (8 * (3 * dimension + 4 * num_targets)), 1)
        raise ValueError(
            f"num_examples={num_examples} picks with {num_targets} targets take about {of_picks / 2**30:.0f} GiB, more "
            f"than the {limit / 2**30:.0f} GiB that a selection may use here: pick at most {most} rows, or use fewer "
            "targets"
        )
    of_pairs = 4 * num_targets * num_rows // distributed.world_size()
    if acquisition.name in PAIRWISE and of_pairs > limit:
        raise ValueError(
            f"acquisition {acquisition.name!r} keeps a number for each pair of the {num_rows} rows and {num_targets} "
            f"targets, about {of_pairs / 2**30:.0f} GiB, more than the {limit / 2**30:.0f} GiB that a selection may "
            "use here: use 'itl' or 'vtl', which do not, or fewer targets"
        )
