"""What a selection could not do: targets that this pool cannot teach, in words and with their text.

The numbers were measured when the selection was made (`itl_hf.gp.attainable`) and travel with it, so a saved
selection can be asked without the pool's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from itl_hf.selection.diagnosis.notices import Notice, notices
from itl_hf.text import plain_text

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

#: A target with at least this share of irreducible variance cannot be taught: with all answers of the pool known and
#: free of noise, more than half of what there was to know would be left, and the best guess from them would correlate
#: with the truth by less than sqrt(1 - 0.5) = 0.71.
UNTEACHABLE = 0.5
#: A target is far from everything if its nearest row is less near than the pool's own rows usually are to each other
#: (`AttainableVariance.usual_reach`): features with more rows than dimensions span everything, so that little is
#: irreducible, and how near strangers are differs from kernel to kernel.
#: A row with correlation r removes at most r^2 of a target's
#: variance: less than a tenth is far in any pool, more than half in none.
FAR, NEAR = 0.1**0.5, 0.5**0.5
#: Most of the variance is gone: the picks teach the target.
TAUGHT = 0.5
#: Further picks count as a help where the pool could remove at least this share more.
WORTHWHILE = 0.1
TEXT_LENGTH = 60

Verdict = Literal["unteachable", "far", "improvable", "exhausted", "taught", "empty"]
#: In words, and in the order in which they deserve attention.
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
    """One target. Shares are of its variance before the first pick.

    Args:
        target (`int`):
            Row number in `Selection.targets`.
        text (`str`):
            Its prompt, whole.
        variance (`float`):
            Variance before the first pick.
        left (`float`):
            Share that the picks left.
        irreducible (`float`):
            Share that no picks from this pool can remove, whatever their number, without noise.
        whole_pool (`float`):
            Share that picking every row once would leave, with the selection's noise.
        reach (`float`):
            Largest prior correlation with any row of the pool, -1 to 1.
        far_below (`float`, *optional*):
            The reach under which a target of this pool counts as far.
    """

    target: int
    text: str
    variance: float
    left: float
    irreducible: float
    whole_pool: float
    reach: float
    far_below: float = FAR

    @property
    def removed(self) -> float:
        """Share of the variance that the picks removed."""
        return 1 - self.left

    @property
    def verdict(self) -> Verdict:
        """`"unteachable"`: half of the variance or more is irreducible. `"far"`: every row correlates less than
        `far_below`. `"taught"`: the picks removed half or more. Else `"improvable"` where the whole pool could remove a
        further tenth, or `"exhausted"`. `"empty"`: the target's features are the pool's mean, so that it has no
        variance at all.
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
    """What became of each target; `print` it for a table, the targets in trouble first.

    Args:
        targets (`tuple[TargetDiagnosis]`):
            In the order of `Selection.targets`.
        picks (`int`):
            Rows picked.
        pool_size (`int`):
            Rows of the pool.
        rows_looked_at (`int`):
            Rows that the irreducible and whole-pool shares are measured on. Where these are not all rows, both are
            upper bounds and `"unteachable"` is a suspicion.
        notices (`tuple[Notice, ...]`):
            What else to know before training: targets among the picks, copies, picks past the point where they tell
            anything.
    """

    targets: tuple[TargetDiagnosis, ...]
    picks: int
    pool_size: int
    rows_looked_at: int
    notices: tuple[Notice, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every row of the pool was looked at."""
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
    def left(self) -> float:
        """Share of all targets' variance together that the picks left."""
        return self._share([target.left for target in self.targets])

    @property
    def whole_pool(self) -> float:
        """The same if every row of the pool were picked once."""
        return self._share([target.whole_pool for target in self.targets])

    def of(self, verdict: Verdict) -> list[TargetDiagnosis]:
        """Targets with this verdict, in their order."""
        return [target for target in self.targets if target.verdict == verdict]

    def summary(self) -> str:
        """Two or three sentences."""
        most = "" if self.exact else "at most "
        sentences = [
            f"{self.picks} of {self.pool_size} rows leave {self.left:.0%} of the variance of {_count(self.targets)}; "
            f"picking every row would leave {most}{self.whole_pool:.0%}."
        ]
        if self.unteachable:
            sentences.append(f"This pool cannot teach {_count(self.unteachable)}: {_numbers(self.unteachable)}.")
        if self.far:
            sentences.append(f"No row is near {_count(self.far)}: {_numbers(self.far)}.")
        if not self.exact:
            sentences.append(
                f"Irreducible and whole-pool shares are upper bounds, from {self.rows_looked_at} rows of the pool."
            )
        return "\n".join(sentences)

    def table(self, rows: int | None = 30) -> str:
        """Plain text, the targets in trouble first.

        Args:
            rows (`int`, *optional*, defaults to 30):
                How many targets to show; all when `None`.
        """
        order = list(WORDS)
        worst_first = sorted(self.targets, key=lambda target: (order.index(target.verdict), -target.left))
        width = max(len(words) for words in WORDS.values())
        bound = "" if self.exact else "<="
        lines = [f"target  left  irreducible  whole pool  nearest  {'verdict':<{width}}  text"]
        for target in worst_first[:rows]:
            shares = f"{bound + format(target.irreducible, '.0%'):>11}  {bound + format(target.whole_pool, '.0%'):>10}"
            lines.append(
                f"{target.target:>6}  {target.left:>4.0%}  {shares}  {target.reach:>7.2f}  "
                f"{WORDS[target.verdict]:<{width}}  {shorten(target.text)}"
            )
        hidden = len(self.targets) - (len(lines) - 1)
        return "\n".join([*lines, f"... and {hidden} more"] if hidden else lines)

    def __str__(self) -> str:
        notes = [f"Note: {notice.text}" for notice in self.notices]
        return "\n".join([self.summary(), *notes, "", self.table()])

    def _share(self, shares: Sequence[float]) -> float:
        total = sum(target.variance for target in self.targets)
        weighted = sum(share * target.variance for share, target in zip(shares, self.targets, strict=True))
        return weighted / total if total > 0 else 0.0


def diagnose(selection: Selection) -> Diagnosis:
    """Reads off a selection what became of each of its targets; see `Selection.diagnose`."""
    limits = selection.record.attainable or {}
    far_below = min(max(limits.get("usual_reach", FAR), FAR), NEAR)
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
            )
        )
    rows = limits.get("rows", selection.pool_size)
    return Diagnosis(tuple(targets), len(selection.indices), selection.pool_size, rows, tuple(notices(selection)))


def shorten(text: str, length: int = TEXT_LENGTH) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _count(targets: Sequence[TargetDiagnosis]) -> str:
    return f"{len(targets)} target" + ("" if len(targets) == 1 else "s")


def _numbers(targets: Sequence[TargetDiagnosis], most: int = 10) -> str:
    numbers = ", ".join(str(target.target) for target in targets[:most])
    return numbers if len(targets) <= most else f"{numbers} and {len(targets) - most} more"
