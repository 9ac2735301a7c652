"""Diagnoses a selection: what the picks taught about each target, and which targets this pool cannot teach.

The numbers were measured when the selection was made (`itl_hf.gp.attainable`) and are saved with it, so that a saved
selection can be diagnosed without the features of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from itl_hf.selection.diagnosis.diagnosable import Diagnosable
from itl_hf.selection.diagnosis.notices import Notice, notices
from itl_hf.selection.diagnosis.reach import FAR, far_threshold
from itl_hf.selection.diagnosis.shortlist_sentence import shortlist_sentence
from itl_hf.selection.diagnosis.weighting import weighting_text
from itl_hf.text import plain_text
from itl_hf.text.excerpts import excerpts
from itl_hf.visible import visible

#: A target with at least this share of irreducible variance cannot be taught: even with noise-free answers to all rows
#: of the pool, more than half of its variance would be left, and the best prediction would correlate with the truth by
#: less than sqrt(1 - 0.5) = 0.71.
UNTEACHABLE = 0.5
#: The picks teach a target if at most this share of its variance is left.
TAUGHT = 0.5
#: More picks would help if the whole pool could remove at least this further share of the variance.
WORTHWHILE = 0.1
TEXT_LENGTH = 60

Verdict = Literal["unteachable", "far", "improvable", "exhausted", "taught", "empty"]
#: The verdicts in words, the most important ones first.
WORDS: dict[Verdict, str] = {
    "unteachable": "this pool cannot teach it",
    "far": "far from every row",
    "exhausted": "little more to gain here",
    "improvable": "more picks would help",
    "taught": "taught",
    "empty": "nothing to learn: an average row",
}


@dataclass(frozen=True)
class TargetDiagnosis:
    """What the picks taught about one target. Shares are of its variance before the first pick.

    Args:
        target (`int`):
            Row number in `Selection.targets`.
        text (`str`):
            Its whole prompt.
        variance (`float`):
            Variance before the first pick.
        left (`float`):
            Share that is left after the picks.
        irreducible (`float`):
            Share that no picks from this pool can remove, however many and without noise.
        whole_pool (`float`):
            Share that would be left after picking every row once, with the selection's noise.
        reach (`float`):
            Largest prior correlation with any row of the pool, -1 to 1.
        far_below (`float`, *optional*):
            A target of this pool with a smaller `reach` counts as far.
        weight (`float`, *optional*, defaults to 1):
            Its weight in totals.
    """

    target: int
    text: str
    variance: float
    left: float
    irreducible: float
    whole_pool: float
    reach: float
    far_below: float = FAR
    weight: float = 1.0

    @property
    def removed_share(self) -> float:
        """Share of the variance that the picks removed."""
        return 1 - self.left

    @property
    def verdict(self) -> Verdict:
        """`"unteachable"`: half of the variance or more is irreducible. `"far"`: every row correlates less than
        `far_below`. `"taught"`: the picks removed half or more. Otherwise `"improvable"` if the whole pool could remove
        a further tenth, else `"exhausted"`. `"empty"`: the target's features are the pool's mean, so that it has no
        variance.
        """
        if self.variance <= 0:
            return "empty"
        if self.irreducible >= UNTEACHABLE:
            return "unteachable"
        if self.reach < self.far_below:
            return "far"
        if self.left <= TAUGHT:
            return "taught"
        return "improvable" if self.left - self.whole_pool >= WORTHWHILE else "exhausted"


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of all targets. `print` it for a table with the worst targets first.

    Args:
        targets (`tuple[TargetDiagnosis]`):
            In the order of `Selection.targets`.
        picks (`int`):
            Rows picked.
        pool_size (`int`):
            Rows of the pool.
        rows_looked_at (`int`):
            Rows that the irreducible and whole-pool shares are measured on. If these are not all rows, both are upper
            bounds and `"unteachable"` is not certain.
        notices (`tuple[Notice, ...]`):
            What else to know before training: targets among the picks, copies, targets that differ from the pool as a
            whole, picks that add almost no information.
        shortlist (`str`):
            A sentence that says which rows were picked from; empty if it was the whole pool.
        weighting (`str`, *optional*):
            Which quality of rows and weights of targets were used, in a line; empty if none were.
    """

    targets: tuple[TargetDiagnosis, ...]
    picks: int
    pool_size: int
    rows_looked_at: int
    notices: tuple[Notice, ...] = ()
    shortlist: str = ""
    weighting: str = ""

    @property
    def exact(self) -> bool:
        """Whether the shares were measured on every row of the pool."""
        return self.rows_looked_at >= self.pool_size

    @property
    def unteachable(self) -> list[TargetDiagnosis]:
        """Targets that this pool cannot teach: most of their variance is irreducible."""
        return self.of("unteachable")

    @property
    def far(self) -> list[TargetDiagnosis]:
        """Further targets to which no row of the pool is near."""
        return self.of("far")

    @property
    def out_of_reach(self) -> list[TargetDiagnosis]:
        """Targets that this pool cannot teach, then those that no row is near."""
        return [*self.unteachable, *self.far]

    @property
    def worst_first(self) -> list[TargetDiagnosis]:
        """All targets in the order of their verdicts in `WORDS`, those with most variance left first."""
        order = list(WORDS)
        return sorted(self.targets, key=lambda target: (order.index(target.verdict), -target.left))

    @property
    def left(self) -> float:
        """Share of the targets' total variance that is left after the picks."""
        return self._share([target.left for target in self.targets])

    @property
    def whole_pool(self) -> float:
        """Share of the targets' total variance that would be left after picking every row once."""
        return self._share([target.whole_pool for target in self.targets])

    def of(self, verdict: Verdict) -> list[TargetDiagnosis]:
        """Targets with this verdict, in their order."""
        return [target for target in self.targets if target.verdict == verdict]

    def summary(self) -> str:
        """Summarizes the diagnosis in a few sentences, a line each."""
        most = "" if self.exact else "at most "
        sentences = [
            f"{self.picks} of {self.pool_size} rows leave {self.left:.0%} of the variance of {_count(self.targets)}; "
            f"picking every row would leave {most}{self.whole_pool:.0%}."
        ]
        if self.weighting:
            sentences.append(self.weighting)
        if self.unteachable:
            sentences.append(f"This pool cannot teach {_count(self.unteachable)}: {_numbers(self.unteachable)}.")
        if self.far:
            sentences.append(f"No row is near {_count(self.far)}: {_numbers(self.far)}.")
        if not self.exact:
            sentences.append(
                f"Irreducible and whole-pool shares are upper bounds, from {self.rows_looked_at} rows of the pool."
            )
        return "\n".join([*sentences, *([self.shortlist] if self.shortlist else [])])

    def table(self, rows: int | None = 30) -> str:
        """Formats a table as plain text, with the worst targets first.

        Args:
            rows (`int`, *optional*, defaults to 30):
                Number of targets to show; `None` for all.
        """
        worst_first = self.worst_first
        width = max(len(words) for words in WORDS.values())
        bound = "" if self.exact else "<="
        lines = [f"target  left  irreducible  whole pool  nearest  {'verdict':<{width}}  text"]
        texts = excerpts([target.text for target in worst_first[:rows]], TEXT_LENGTH)
        for target, text in zip(worst_first[:rows], texts, strict=True):
            shares = f"{bound + format(target.irreducible, '.0%'):>11}  {bound + format(target.whole_pool, '.0%'):>10}"
            lines.append(
                f"{target.target:>6}  {target.left:>4.0%}  {shares}  {target.reach:>7.2f}  "
                f"{WORDS[target.verdict]:<{width}}  {visible(text)}"
            )
        hidden = len(self.targets) - (len(lines) - 1)
        return "\n".join([*lines, f"... and {hidden} more"] if hidden else lines)

    def text(self, rows: int | None = 30) -> str:
        """Formats summary, notices and table as plain text; `rows` is that of `table`."""
        notes = [f"Note: {notice.text}" for notice in self.notices]
        return "\n".join([self.summary(), *notes, "", self.table(rows)])

    def __str__(self) -> str:
        return self.text()

    def _share(self, shares: Sequence[float]) -> float:
        variances = [target.weight * target.variance for target in self.targets]
        total = sum(variances)
        weighted_sum = sum(share * variance for share, variance in zip(shares, variances, strict=True))
        return weighted_sum / total if total > 0 else 0.0


def diagnose(selection: Diagnosable) -> Diagnosis:
    """Diagnoses a selection; users call `Selection.diagnose`."""
    far_below = far_threshold(selection)
    weights = selection.record.weights_of_targets
    targets = []
    for number, row in enumerate(selection.targets):
        variance = float(selection.target_variance[0, number])
        scale = 1 / variance if variance > 0 else 0.0
        targets.append(
            TargetDiagnosis(
                target=number,
                text=next((text for text in plain_text(row) if text), ""),
                variance=variance,
                left=float(selection.target_variance[-1, number]) * scale,
                irreducible=float(selection.irreducible[number]) * scale,
                whole_pool=float(selection.whole_pool[number]) * scale,
                reach=float(selection.reach[number]),
                far_below=far_below,
                weight=1.0 if weights is None else weights[number],
            )
        )
    return Diagnosis(
        targets=tuple(targets),
        picks=len(selection.indices),
        pool_size=selection.pool_size,
        rows_looked_at=(selection.record.attainable or {}).get("rows", selection.pool_size),
        notices=tuple(notices(selection)),
        shortlist=shortlist_sentence(selection.record),
        weighting=weighting_text(selection.record),
    )


def _count(targets: Sequence[TargetDiagnosis]) -> str:
    return f"{len(targets)} target" + ("" if len(targets) == 1 else "s")


def _numbers(targets: Sequence[TargetDiagnosis], most: int = 10) -> str:
    numbers = ", ".join(str(target.target) for target in targets[:most])
    return numbers if len(targets) <= most else f"{numbers} and {len(targets) - most} more"
