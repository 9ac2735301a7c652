"""What one visitor has done so far, as a value; a click makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from itl_hf.report.explorer.reselect import select_again

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection

#: What a point on the map is: a pick by its place in the order, a target by its number, a row of the pool by its own,
#: or a pick that only the other selection has.
Kind = Literal["pick", "target", "pool", "other"]
#: What picks are coloured by, and what they are compared with.
Mode = Literal["rank", "other", "before"]


@dataclass(frozen=True)
class Filters:
    """Which picks to list.

    Args:
        text (`str`):
            What prompt or completion must contain, whatever the case of letters.
        groups (`tuple[str, ...]`):
            Values of the source column to keep; all if empty.
        gain (`float`):
            Least gain as a share of the largest, 0 to 1.
    """

    text: str = ""
    groups: tuple[str, ...] = ()
    gain: float = 0.0


@dataclass(frozen=True)
class Session:
    """Where a visitor is.

    Args:
        dropped (`frozenset[int]`):
            Rows of the pool that shall not be picked.
        applied (`frozenset[int]`):
            Those that `again` was made without.
        again (`Selection`, *optional*):
            What was selected without them.
        filters (`Filters`):
            See there.
        page (`int`):
            Page of the list of picks, from 0.
        target (`int`, *optional*):
            The target that was chosen.
        point (`tuple`, *optional*):
            Kind and number of what was clicked last.
        mode (`str`):
            `"rank"`, `"other"` (compare with the other selection) or `"before"` (with the first one).
        trouble (`str`):
            Why the last wish was not granted, as a sentence.
    """

    dropped: frozenset[int] = frozenset()
    applied: frozenset[int] = frozenset()
    again: Selection | None = None
    filters: Filters = Filters()
    page: int = 0
    target: int | None = None
    point: tuple[Kind, int] | None = None
    mode: Mode = "rank"
    trouble: str = ""

    def now(self, explored: ExplorerData) -> Selection:
        """The selection on show."""
        return explored.selection if self.again is None else self.again


def act(explored: ExplorerData, session: Session, wish: Mapping[str, Any]) -> Session:
    """The session after a click in the page.

    Args:
        explored (`ExplorerData`):
            What is looked at.
        session (`Session`):
            Before the click.
        wish (`Mapping`):
            `do` (`show`, `target`, `drop`, `restore`, `page`) with `kind` and `number`. It comes from a browser, so
            numbers out of range are ignored.
    """
    session = replace(session, trouble="")
    number = wish.get("number")
    if isinstance(number, bool) or not isinstance(number, int):
        return session
    kind, what = str(wish.get("kind", "")), wish.get("do")
    if what == "show" and 0 <= number < _count(explored, session, kind):
        shown = replace(session, point=(kind, number))  # type: ignore[arg-type]
        return replace(shown, target=number) if kind == "target" else shown
    if what == "target":
        return choose_target(explored, session, number)
    if what in ("drop", "restore") and 0 <= number < explored.selection.pool_size:
        rows = session.dropped | {number} if what == "drop" else session.dropped - {number}
        return replace(session, dropped=rows)
    return replace(session, page=max(0, number)) if what == "page" else session


def choose_target(explored: ExplorerData, session: Session, number: int | None) -> Session:
    """With another target, or none."""
    known = number is not None and 0 <= number < len(explored.selection.targets)
    return replace(session, target=number if known else None, trouble="")


def set_filters(session: Session, filters: Filters) -> Session:
    """With other filters, and back to the first page of the list."""
    return replace(session, filters=filters, page=0, trouble="")


def reselect(explored: ExplorerData, session: Session, num_examples: int | None = None) -> Session:
    """With picks from the pool without the dropped rows; what stood in the way is said in `trouble`."""
    count = len(explored.selection) if num_examples is None else int(num_examples)
    if not session.dropped and count == len(explored.selection) and not explored.obstacle:
        return replace(session, again=None, applied=frozenset(), mode="rank", point=None, page=0, trouble="")
    try:
        again = select_again(explored, session.dropped, count)
    except (ValueError, OSError) as error:
        return replace(session, trouble=str(error))
    point = session.point if session.point is not None and session.point[0] in ("target", "pool") else None
    return replace(
        session,
        again=again,
        applied=session.dropped,
        mode="before",
        point=point,
        page=0,
        trouble="",
    )


def _count(explored: ExplorerData, session: Session, kind: str) -> int:
    counts = {
        "pick": len(session.now(explored)),
        "target": len(explored.selection.targets),
        "pool": explored.selection.pool_size,
        "other": len(explored.other)
        if session.mode == "other" and explored.other is not None
        else len(explored.selection),
    }
    return counts.get(kind, 0)
