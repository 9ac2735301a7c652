"""The state of one visitor's page as an immutable value; every click makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from itl_hf.report.explorer.reselect import select_again

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection

#: Kind of a point on the map. A pick and a pick that only the other selection has ("other") are identified by their
#: rank from 0, a target by its number, and a row of the pool by its row number.
Kind = Literal["pick", "target", "pool", "other"]
#: Whether picks are coloured by rank, or by the comparison with the other or with the first selection.
Mode = Literal["rank", "other", "before"]


@dataclass(frozen=True)
class Filters:
    """Conditions for a pick to be listed.

    Args:
        text (`str`):
            Text that prompt or completion must contain; upper and lower case are not distinguished.
        groups (`tuple[str, ...]`):
            Sources to list (values of the source column); all if empty.
        gain (`float`):
            Smallest gain to list, as a share of the largest gain, from 0 to 1.
    """

    text: str = ""
    groups: tuple[str, ...] = ()
    gain: float = 0.0


@dataclass(frozen=True)
class Session:
    """What a visitor has done so far.

    Args:
        dropped_rows (`frozenset[int]`):
            Rows of the pool that the visitor has dropped.
        excluded_rows (`frozenset[int]`):
            The dropped rows at the time when `new_selection` was made.
        new_selection (`Selection`, *optional*):
            The selection that was made without `excluded_rows`.
        filters (`Filters`):
            Conditions for a pick to be listed.
        page (`int`):
            Page of the list of picks, from 0.
        target (`int`, *optional*):
            Number of the chosen target.
        point (`tuple`, *optional*):
            Kind and number of the point that was clicked last.
        mode (`str`):
            `"rank"`, `"other"` (compare with the other selection) or `"before"` (compare with the first selection).
        error (`str`):
            A sentence that says why selecting again failed.
    """

    dropped_rows: frozenset[int] = frozenset()
    excluded_rows: frozenset[int] = frozenset()
    new_selection: Selection | None = None
    filters: Filters = Filters()
    page: int = 0
    target: int | None = None
    point: tuple[Kind, int] | None = None
    mode: Mode = "rank"
    error: str = ""

    def current_selection(self, data: ExplorerData) -> Selection:
        """The selection that the page shows: the new one if the visitor selected again."""
        return data.selection if self.new_selection is None else self.new_selection


def apply_action(data: ExplorerData, session: Session, action: Mapping[str, Any]) -> Session:
    """Returns the session after a click in the page.

    Args:
        data (`ExplorerData`):
            The selection with its pool and features.
        session (`Session`):
            The session before the click.
        action (`Mapping`):
            `do` (`show`, `target`, `drop`, `restore` or `page`), `kind` and `number`. It comes from a browser, so
            numbers that are out of range are ignored.

    Returns:
        `Session`: The new session.
    """
    session = replace(session, error="")
    number = action.get("number")
    if isinstance(number, bool) or not isinstance(number, int):
        return session
    kind, verb = str(action.get("kind", "")), action.get("do")
    if verb == "show" and 0 <= number < _num_points(data, session, kind):
        target = number if kind == "target" else session.target
        return replace(session, point=(kind, number), target=target)  # type: ignore[arg-type]
    if verb == "target":
        return choose_target(data, session, number)
    if verb in ("drop", "restore") and 0 <= number < data.selection.pool_size:
        rows = session.dropped_rows | {number} if verb == "drop" else session.dropped_rows - {number}
        return replace(session, dropped_rows=rows)
    return replace(session, page=max(0, number)) if verb == "page" else session


def choose_target(data: ExplorerData, session: Session, number: int | None) -> Session:
    """Returns the session with another chosen target, or with none if there is no target with this number."""
    exists = number is not None and 0 <= number < len(data.selection.targets)
    return replace(session, target=number if exists else None, error="")


def set_filters(session: Session, filters: Filters) -> Session:
    """Returns the session with other filters and the list of picks at its first page."""
    return replace(session, filters=filters, page=0, error="")


def reselect(data: ExplorerData, session: Session, num_examples: int | None = None) -> Session:
    """Returns the session after selecting again without the dropped rows; `error` says why if that fails.

    If no row is dropped and the number of rows is that of the first selection, the first selection is shown again.
    """
    count = len(data.selection) if num_examples is None else int(num_examples)
    if not session.dropped_rows and count == len(data.selection) and not data.obstacle:
        return replace(
            session, new_selection=None, excluded_rows=frozenset(), mode="rank", point=None, page=0, error=""
        )
    try:
        new_selection = select_again(data, session.dropped_rows, count)
    except (ValueError, OSError) as error:
        return replace(session, error=str(error))
    point = session.point if session.point is not None and session.point[0] in ("target", "pool") else None
    return replace(
        session,
        new_selection=new_selection,
        excluded_rows=session.dropped_rows,
        mode="before",
        point=point,
        page=0,
        error="",
    )


def _num_points(data: ExplorerData, session: Session, kind: str) -> int:
    """Number of points of a kind, to check the number that comes from the browser."""
    num_points = {
        "pick": len(session.current_selection(data)),
        "target": len(data.selection.targets),
        "pool": data.selection.pool_size,
        "other": len(data.other) if session.mode == "other" and data.other is not None else len(data.selection),
    }
    return num_points.get(kind, 0)
