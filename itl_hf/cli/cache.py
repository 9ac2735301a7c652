"""`itl-hf cache`: lists and deletes the features that are kept where no `--store` was given."""

from __future__ import annotations

import enum
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli.output import Outcome

if TYPE_CHECKING:
    from itl_hf.embedding.store.cache import CacheEntry, FeatureCache


class Action(enum.StrEnum):
    """What `itl-hf cache` does."""

    list = "list"
    clear = "clear"


def cache(
    action: Annotated[Action, typer.Argument(metavar="list|clear", help="Show what is kept, or delete it.")],
    older_than: Annotated[
        float, typer.Option("--older_than", metavar="DAYS", min=0, help="Only what was not used for so many days.")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="clear: do not ask.")] = False,
) -> Outcome:
    """List or delete the features that are kept where no --store was given.

    They are in the folder ITL_HF_CACHE, or itl_hf in HF_HOME; deleted ones are computed again when they are needed.
    """
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.embedding.store.cache import FeatureCache

    feature_cache = FeatureCache()
    entries = feature_cache.entries_older_than(older_than)
    if action is Action.list:
        return Outcome(_table(feature_cache, entries), _facts(feature_cache, entries))
    return _clear(feature_cache, entries, older_than, yes)


def _clear(feature_cache: FeatureCache, entries: list[CacheEntry], older_than: float, yes: bool) -> Outcome:
    if entries and not yes and not _confirm(_table(feature_cache, entries)):
        return Outcome("nothing was deleted", {**_facts(feature_cache, []), "deleted": 0})
    entries_cleared, busy = feature_cache.clear(older_than) if entries else ([], [])
    count = f"{len(entries_cleared)} of {len(entries)} datasets"
    words = f"deleted {count}, {_size(entries_cleared)}, from {feature_cache.folder}"
    if busy:
        words += f"; {len(busy)} are being written by another run and were left"
    return Outcome(words, {**_facts(feature_cache, entries_cleared), "deleted": len(entries_cleared)})


def _confirm(table: str) -> bool:
    if not _has_terminal():
        raise typer.BadParameter("there is no terminal to ask on: give --yes to delete what `itl-hf cache list` shows")
    typer.echo(table, err=True)
    return typer.confirm("Delete these features?", err=True)


def _has_terminal() -> bool:
    return sys.stdin.isatty()


def _table(feature_cache: FeatureCache, entries: list[CacheEntry]) -> str:
    lines = [f"{feature_cache.folder}: {len(entries)} datasets, {_size(entries)}"]
    if entries:
        lines.append(f"{'size':>10}  {'rows':>12}  {'last use':<16}  model")
    for entry in entries:
        rows = "?" if entry.rows is None else f"{entry.rows:,}"
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_use))
        state = "" if entry.is_finished else " (unfinished)"
        lines.append(f"{_size([entry]):>10}  {rows:>12}  {when:<16}  {entry.model}{state}")
    return "\n".join(lines)


def _size(entries: list[CacheEntry]) -> str:
    from itl_hf.embedding.store.sizes import size

    return size(sum(entry.num_bytes for entry in entries))


def _facts(feature_cache: FeatureCache, entries: list[CacheEntry]) -> dict[str, Any]:
    return {
        "directory": str(feature_cache.folder),
        "bytes": sum(entry.num_bytes for entry in entries),
        "entries": [
            {
                "directory": str(entry.directory),
                "bytes": entry.num_bytes,
                "rows": entry.rows,
                "model": entry.model,
                "last_use": entry.last_use,
                "finished": entry.is_finished,
            }
            for entry in entries
        ],
    }
