"""The state of one visitor's page as an immutable value; every click makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from itl_hf.report.explorer.reselect import select_again

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection

#: Kind of a point on the map. A pick and a pick that only the other selection has ("other") are identified by their
#: rank from 0, a target by its number, and a row of the pool by its row number.
Kind = Literal["pick", "target", "pool", "other"]
#: Whether the map is coloured by rank, by the comparison with the other or with the first selection, or by a column.
Mode = Literal["rank", "other", "before", "column"]
#: Smallest and largest weight of a target that the page offers; 1 is that of a target that was given once.
WEIGHTS = (0.25, 8.0)


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
        weights (`Mapping[int, float]`):
            Weights that the visitor has given to targets.
        applied_weights (`Mapping[int, float]`):
            These weights at the time when `new_selection` was made.
        new_selection (`Selection`, *optional*):
            The selection that was made without `excluded_rows`.
        filters (`Filters`):
            Conditions for a pick to be listed.
        page (`int`):
            Page of the list of picks, from 0.
        hits_page (`int`):
            Page of the list of rows of the pool that contain the text of the filter, from 0.
        target (`int`, *optional*):
            Number of the chosen target.
        point (`tuple`, *optional*):
            Kind and number of the point that was clicked last.
        mode (`str`):
            `"rank"`, `"other"` (compare with the other selection), `"before"` (compare with the first selection) or
            `"column"`.
        column (`str`):
            The column that the map is coloured by in the mode `"column"`.
        error (`str`):
            A sentence that says why selecting again failed.
    """

    dropped_rows: frozenset[int] = frozenset()
    excluded_rows: frozenset[int] = frozenset()
    weights: Mapping[int, float] = field(default_factory=dict)
    applied_weights: Mapping[int, float] = field(default_factory=dict)
    new_selection: Selection | None = None
    filters: Filters = Filters()
    page: int = 0
    hits_page: int = 0
    target: int | None = None
    point: tuple[Kind, int] | None = None
    mode: Mode = "rank"
    column: str = ""
    error: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether rows were dropped or restored, or weights changed, since the selection was made."""
        return (self.dropped_rows, self.weights) != (self.excluded_rows, self.applied_weights)

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
            `do` (`show`, `close`, `target`, `drop`, `restore`, `page` or `hits_page`), `kind` and `number`. It comes
            from a browser, so numbers that are out of range are ignored.

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
    if verb == "close":
        return replace(session, point=None)
    if verb == "page":
        return replace(session, page=max(0, number))
    return replace(session, hits_page=max(0, number)) if verb == "hits_page" else session


def choose_target(data: ExplorerData, session: Session, number: int | None) -> Session:
    """Returns the session with another chosen target, or with none if there is no target with this number."""
    exists = number is not None and 0 <= number < len(data.selection.targets)
    return replace(session, target=number if exists else None, error="")


def weigh_target(data: ExplorerData, session: Session, weight: float) -> Session:
    """Returns the session with another weight of the chosen target; weights out of their range are ignored."""
    if session.target is None or not WEIGHTS[0] <= weight <= WEIGHTS[1]:
        return session
    weights = {**session.weights, session.target: weight}
    return replace(session, weights={k: v for k, v in weights.items() if v != weight_before(data, k)}, error="")


def weight_before(data: ExplorerData, target: int) -> float:
    """Weight of a target in the first selection."""
    weights = data.selection.record.weights_of_targets
    return 1.0 if weights is None else float(weights[target])


def set_filters(session: Session, filters: Filters) -> Session:
    """Returns the session with other filters and the list of picks at its first page."""
    return replace(session, filters=filters, page=0, hits_page=0, error="")


def reselect(data: ExplorerData, session: Session, num_examples: int | None = None) -> Session:
    """Returns the session after selecting again without the dropped rows and with the weights of the targets.

    If no row is dropped, no weight changed and the number of rows is that of the first selection, the first selection
    is shown again. `error` says why if selecting fails.
    """
    count = len(data.selection) if num_examples is None else int(num_examples)
    if not session.dropped_rows and not session.weights and count == len(data.selection) and not data.obstacle:
        first = replace(session, new_selection=None, excluded_rows=frozenset(), applied_weights={})
        return replace(first, mode="rank", point=None, page=0, error="")
    try:
        new_selection = select_again(data, session.dropped_rows, count, session.weights)
    except (ValueError, OSError) as error:
        return replace(session, error=str(error))
    point = session.point if session.point is not None and session.point[0] in ("target", "pool") else None
    return replace(
        session,
        new_selection=new_selection,
        excluded_rows=session.dropped_rows,
        applied_weights=session.weights,
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
