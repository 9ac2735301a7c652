"""From which similarity on a target counts as far from the pool."""

from __future__ import annotations

from itl_hf.selection.diagnosis.diagnosable import Diagnosable

#: A target is far from the pool if its nearest row is less near than the pool's own rows usually are to each other
#: (`AttainableVariance.usual_reach`). If there are more rows than dimensions, the features span the whole space and
#: little variance is irreducible; how near unrelated rows are differs between kernels. A row with correlation r removes
#: at most r^2 of a target's variance: less than a tenth counts as far in any pool, more than half in none.
FAR, NEAR = 0.1**0.5, 0.5**0.5


def far_threshold(selection: Diagnosable) -> float:
    """Returns the correlation with its nearest row below which a target of this selection counts as far."""
    attainable = selection.record.attainable or {}
    return float(min(max(attainable.get("usual_reach", FAR), FAR), NEAR))
