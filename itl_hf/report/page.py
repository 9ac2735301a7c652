"""One HTML file that tells what was selected, from what, for what, and why: no network, no scripts, nothing beside it.

Figures are inline SVG whose text follows the page's theme. Everything that comes from data is escaped by the template,
and characters that would hide or reorder text are made visible. Not covered: exploring; for that rows need a server.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from itl_hf.report.figures import FAINT, GRID, INK, PAPER, gain_figure, map_figure, variance_figure, variance_left
from itl_hf.selection.diagnosis import WORDS, diagnose
from itl_hf.text import plain_text

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.selection import Selection

METHODS = {"itl": "ITL", "vtl": "VTL", "ctl": "CTL", "cosine": "cosine similarity", "random": "random draw"}
# Columns that name where a row comes from, in the order in which they are looked for.
GROUP_COLUMNS = ("task", "source", "dataset", "category", "domain", "subset", "topic")
MAX_GROUPS = 40
MAX_CHARACTERS = 6_000
EXCERPT_CHARACTERS = (36, 64)

# Invisible, or able to reorder what stands around them: shown by their code point instead of obeyed.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff\ufeff]")
_THEME = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)", PAPER: "var(--paper)"}


@dataclass(frozen=True)
class Table:
    """A table for the page.

    Args:
        title (`str`): heading above it.
        columns (`Sequence[str]`): column heads; the first column names the rows.
        rows (`Sequence[Sequence[str]]`): cells as they shall be read.
        note (`str`, *optional*): a sentence below it.
        highlight (`int`, *optional*): number of a row to set off.

    Example:
        >>> table = Table("Loss", ["trained on", "loss"], [["ITL", "1.44"], ["random", "1.92"]], highlight=0)
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    highlight: int | None = None


def write_report(
    selection: Selection,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    tables: Sequence[Table] = (),
    max_picks: int = 200,
) -> Path:
    """Writes the report of a selection as one self-contained HTML file.

    Args:
        selection (`Selection`): what to report.
        path (`str` or `PathLike`): the file; it is replaced whole or not at all. Missing folders are made.
        title (`str`, *optional*): heading; made from the numbers if left out.
        tables (`Sequence[Table]`, *optional*): more tables, shown after the summary.
        max_picks (`int`, *optional*, defaults to 200): so many picks, from the first, are listed with their text.

    Returns:
        `Path`: the file.

    Raises:
        ValueError: `max_picks` is negative.

    Example:
        >>> from itl_hf import Selection
        >>> write_report(Selection.load("selected"), "report.html")  # doctest: +SKIP
    """
    if max_picks < 0:
        raise ValueError(f"max_picks must be 0 or more, got {max_picks}")
    html = render(selection, title=title, tables=tables, max_picks=max_picks)
    return _write_atomically(html, Path(path))


def render(selection: Selection, *, title: str | None, tables: Sequence[Table], max_picks: int) -> str:
    """The page as a string; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("itl_hf.report"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    targets = _targets(selection)
    return environment.get_template("report.html").render(
        title=title or f"{len(selection.indices):,} rows picked from {selection.pool_size:,}",
        facts=_facts(selection),
        tables=tables,
        figures=_figures(selection),
        groups=_groups(selection),
        picks=_picks(selection, targets, max_picks),
        num_picks=len(selection.indices),
        targets=targets,
        diagnosis=diagnose(selection).summary().split("\n"),
        provenance=list(_flat(selection.record)),
    )


def visible(value: Any) -> Any:
    """Text with control, bidirectional and undecodable characters replaced by visible stand-ins; all else unchanged."""
    if not isinstance(value, str):
        return value
    shown = _HIDDEN.sub(_stand_in, value)
    # Only this module makes Markup, so what is already safe must stay marked as such.
    return Markup(shown) if isinstance(value, Markup) else shown


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """A figure as an SVG element that scales with the page and takes its text and background colours from it.

    Args:
        figure (`Figure`): made with the colours of `itl_hf.report.figures`.
        name (`str`): unique in the page; ids inside the SVG start with it.
        description (`str`): what the picture shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "savefig.dpi": 200}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    # Several SVGs share one document: equal ids would let one picture use another's shapes.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for color, variable in _THEME.items():
        svg = svg.replace(color, variable)
    label = Markup('<svg role="img" aria-label="{}"').format(description)
    return Markup(svg.replace("<svg", label, 1))


def _stand_in(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the "control pictures" block
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\u27e8U+{code:04X}\u27e9"


def _figures(selection: Selection) -> dict[str, Markup]:
    """Each figure twice: the style sheet shows the wide one or, on a phone, the narrow one."""
    left = variance_left(selection.target_variance)[-1].mean()
    makers: dict[str, tuple[str, Callable[[bool], Figure]]] = {
        "map": (
            "Map of the pool's rows, the targets and the picks on the first two principal components of the features.",
            lambda narrow: map_figure(selection.layout, pool_size=selection.pool_size, narrow=narrow),
        ),
        "variance": (
            f"Variance left at the targets against rows picked: from 100% to {left:.0%} on average.",
            lambda narrow: variance_figure(selection.target_variance, narrow=narrow),
        ),
        "gain": (
            "Information gained by each pick, in the order picked.",
            lambda narrow: gain_figure(selection.gains, narrow=narrow),
        ),
    }
    return {
        name: Markup('<div class="at-desk">{}</div><div class="on-phone">{}</div>').format(
            inline_svg(make(False), f"{name}-wide", description), inline_svg(make(True), f"{name}-narrow", description)
        )
        for name, (description, make) in makers.items()
    }


def _facts(selection: Selection) -> dict[str, Any]:
    record = selection.record
    name = str(record.get("acquisition", "unknown"))
    embedder = record.get("embedder") or {}
    return {
        "picks": len(selection.indices),
        "pool": selection.pool_size,
        "targets": len(selection.targets),
        "method": METHODS.get(name, name),
        "kernel": record.get("kernel", "?"),
        "noise": record.get("noise_std"),
        "rule": record.get("rule", ""),
        "left": float(variance_left(selection.target_variance)[-1].mean()),
        "information": float(np.sum(selection.gains)),
        "model": Path(str(embedder.get("model", ""))).name or "unknown",
        "span": embedder.get("span", "prompt"),
    }


def _targets(selection: Selection) -> list[dict[str, Any]]:
    left = variance_left(selection.target_variance)[-1]  # (m,)
    served = Counter(selection.dataset["itl_nearest_target"])
    verdicts = [target.verdict for target in diagnose(selection).targets]
    return [
        _texts(row)
        | {
            "number": number,
            "left": float(left[number]),
            "served": served[number],
            "group": _group_of(row),
            "verdict": WORDS[verdicts[number]],
            "trouble": verdicts[number] in ("unteachable", "far"),
        }
        for number, row in enumerate(selection.targets)
    ]


def _picks(selection: Selection, targets: list[dict[str, Any]], max_picks: int) -> list[dict[str, Any]]:
    shown = selection.dataset.select(range(min(max_picks, len(selection.dataset))))
    largest = float(np.max(selection.gains, initial=0.0)) or 1.0
    return [
        _texts(row)
        | {
            "rank": number + 1,
            "row": row["pool_index"],
            "gain": row["itl_gain"],
            "share": min(1.0, max(0.0, row["itl_gain"] / largest)),
            "similarity": row["itl_similarity"],
            "target": targets[row["itl_nearest_target"]],
            "group": _group_of(row),
        }
        for number, row in enumerate(shown)
    ]


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt, completion = plain_text(row)
    return {"prompt": _cut(prompt), "completion": _cut(completion), "excerpt": _excerpt(prompt)}


def _excerpt(text: str) -> str:
    """Start and end: prompts of one kind often start alike and differ in their last words."""
    start, end = " ".join(text[:400].split()), " ".join(text[-400:].split())
    if len(text) <= 400 and len(start) <= sum(EXCERPT_CHARACTERS):
        return start
    head, tail = start[: EXCERPT_CHARACTERS[0]], end[-EXCERPT_CHARACTERS[1] :]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"


def _group_of(row: Mapping[str, Any]) -> str:
    column = _group_column(row)
    return "" if column is None else str(row[column])


def _group_column(columns: Mapping[str, Any] | Sequence[str]) -> str | None:
    return next((name for name in GROUP_COLUMNS if name in columns), None)


def _groups(selection: Selection) -> dict[str, Any] | None:
    """Picks and targets by source, for pools that name one."""
    column = _group_column(selection.dataset.column_names)
    if column is None:
        return None
    picks = _counts(selection.dataset, column)
    targets = _counts(selection.targets, column) if column in selection.targets.column_names else None
    names = sorted(set(picks) | set(targets or ()), key=lambda name: (-picks[name], -(targets or picks)[name], name))
    largest = max(picks.values(), default=1)
    rows = [
        {"name": name, "picks": picks[name], "targets": targets[name] if targets else 0, "share": picks[name] / largest}
        for name in names[:MAX_GROUPS]
    ]
    rest = names[MAX_GROUPS:]
    return {
        "column": column,
        "rows": rows,
        "with_targets": targets is not None,
        "rest": len(rest),
        "rest_picks": sum(picks[name] for name in rest),
    }


def _counts(dataset: Dataset, column: str) -> Counter[str]:
    return Counter(str(value) for value in dataset[column])


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            items += _flat(value, f"{name}.")
        else:
            items.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return items


def _write_atomically(text: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path
