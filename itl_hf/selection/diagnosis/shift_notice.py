"""Says in words that the targets differ from the pool as a whole: another language, template, system prompt or length.

A diagnosis only: it never changes the picks. The threshold was chosen on half of the tasks, templates and languages of
`recipes/benchmarks/shift.py`, which reports the rates of detection and of false alarms on the other half.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from itl_hf.gp.shift import Shift
from itl_hf.selection.diagnosis.diagnosable import Diagnosable
from itl_hf.selection.diagnosis.reach import NEAR
from itl_hf.selection.diagnosis.text_contrast import TextContrast

#: Targets are shifted if `Shift.lower_bound` is at least this: with confidence, that share of their squared offsets
#: from their nearest rows is common to all, beyond what rows of the pool have.
SHIFTED = 0.08
#: Targets of fewer groups than this may share an offset because the pool lacks their kind. Half of them must have a row
#: so near (`NEAR`) that the pool has their kind.
FEW_GROUPS = 3.0


@dataclass(frozen=True)
class ShiftRecord:
    """What was measured, as it is saved with a selection.

    Args:
        shift (`Shift`):
            How much of the targets' offsets from their nearest rows is common.
        texts (`TextContrast`):
            What differs between the texts.
    """

    shift: Shift
    texts: TextContrast

    def to_json(self) -> dict[str, Any]:
        """Converts both to JSON types."""
        numbers = {name: round(value, 6) for name, value in dataclasses.asdict(self.shift).items()}
        return {**numbers, "texts": self.texts.to_json()}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any] | None) -> ShiftRecord | None:
        """Reads what `to_json` wrote; `None` where nothing was measured."""
        if not entries:
            return None
        numbers = {name: value for name, value in entries.items() if name != "texts"}
        return cls(Shift(**numbers), TextContrast.from_json(entries["texts"]))


def is_shifted(shift: Shift, median_reach: float) -> bool:
    """Whether targets differ from the pool as a whole.

    Args:
        shift (`Shift`):
            How much of the targets' offsets from their nearest rows is common.
        median_reach (`float`):
            Median over targets of the correlation with the nearest row.
    """
    return shift.lower_bound >= SHIFTED and (shift.groups >= FEW_GROUPS or median_reach >= NEAR)


def shift_text(selection: Diagnosable) -> str | None:
    """Returns what to say about a selection whose targets are shifted; `None` if they are not, or too few.

    The sentences hold no text from the data.
    """
    record = ShiftRecord.from_json(selection.record.shift)
    if record is None or not is_shifted(record.shift, float(np.median(selection.reach))):
        return None
    shift = record.shift
    text = (
        f"The {len(selection.targets):,} targets differ from the pool as a whole: {shift.common_share:.0%} of their "
        "squared distance to their nearest rows is one difference that all of them share (for rows of the pool: "
        f"{max(shift.pool_share, 0):.0%}). Is it another language, template, system prompt or length? The picks are "
        "the nearest rows that the pool has, but part of that nearness is form, not content. If you can, write targets "
        "and pool in the same form, and select again."
    )
    differences = record.texts.differences()
    return f"{text} In the texts: {'; '.join(differences)}." if differences else text
