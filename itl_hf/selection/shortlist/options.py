"""What users set of a shortlist: how many rows, and the features that it is made by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from itl_hf.embedding.embedders.base import Embedder, check_embedder
from itl_hf.selection.protocol import Acquisition, reads

#: The shortlist of `select_rows` and `Selector` where none is asked for: `None` for the whole pool, or `"auto"`.
DEFAULT_SHORTLIST: Literal["auto"] | None = None
#: Rows on the shortlist for each row to pick, with `shortlist="auto"`.
AUTO_SHORTLIST_FACTOR = 1.5
#: The least of `"auto"` with an embedder of its own: the other features are standardized by the rows on the list.
FEWEST_EMBEDDED_ROWS = 128
#: Share of the pool that `"auto"` lists with an embedder of its own, at least: what is near by cheap features is not
#: what is near by the others. A tenth loses nothing, a fiftieth .01 of the picks of the targets' tasks, and 1.5 times
#: the picks .04 (`python -m recipes.benchmarks.shortlist`).
EMBEDDED_SHARE = 0.1
#: Acquisitions that weigh rows against each other under an objective of the targets: only these get a shortlist by
#: `"auto"`. Baselines stay what their papers say.
DIRECTED_ACQUISITIONS = ("itl", "vtl", "mean_marginal_itl", "ctl")

Size: TypeAlias = int | Literal["auto"]


@dataclass(frozen=True)
class Shortlist:
    """How many rows the shortlist has, and by which features they are found.

    The shortlist is what the targets get by taking turns: each target in turn adds its nearest row that is not on the
    list yet, until there are `size` rows. Near is what has a large correlation under the kernel; a low quality
    lowers it. Only rows that may be
    picked are on it. Near-duplicates count once: a row that is nearly the same as one on the list (its cosine is above
    `NEAR_DUPLICATE_COSINE`), or as one that was trained on before, is added without using up a place, up to `size` such
    rows. So a list of `num_examples` rows without near-duplicates leaves no choice and gives the rows of round-robin,
    and a size of all rows is the selection from the whole pool.

    The choice is exact among the rows on the list, not over the pool. The list grows where the picks would otherwise
    end too early, because budgets or shares of groups leave none of its rows.

    Args:
        size (`int` or `"auto"`, *optional*, defaults to `"auto"`):
            Rows on the shortlist altogether. `"auto"` is `AUTO_SHORTLIST_FACTOR` times `num_examples`; with an embedder
            at least `EMBEDDED_SHARE` of the pool, and `FEWEST_EMBEDDED_ROWS`.
        embedder (`Embedder`, *optional*):
            Cheaper features that the shortlist is made by, in `Selector`: the selector's own embedder then embeds only
            the shortlist and the targets. Left out, the shortlist is made by the features that rows are picked by.

    Raises:
        `ValueError`: If the size is neither a whole number of at least 1 nor `"auto"`.
        `TypeError`: If the embedder is none.

    Example:
        >>> from itl_hf import Shortlist, select_rows
        >>> rows = [[1.0, 0.0], [0.9, 0.2], [0.0, 1.0], [-1.0, 0.1]]
        >>> select_rows(rows, [[1.0, 0.1]], 1, shortlist=Shortlist(2)).record.shortlist["size"]
        2
    """

    size: Size = "auto"
    embedder: Embedder | None = None

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.embedder is not None:
            check_embedder(self.embedder, "Shortlist(embedder=...)")

    def num_rows(self, num_examples: int, pool_size: int) -> int:
        """Rows on the list for so many picks from a pool of so many rows."""
        if self.size != "auto":
            return int(self.size)
        num_rows = math.ceil(AUTO_SHORTLIST_FACTOR * num_examples - 1e-9)
        if self.embedder is None:
            return num_rows
        return max(num_rows, FEWEST_EMBEDDED_ROWS, math.ceil(EMBEDDED_SHARE * pool_size - 1e-9))

    def to_json(self) -> dict[str, Any]:
        """The settings as entries of a record, JSON types."""
        if self.size != "auto":
            return {"setting": self.size}
        share = {} if self.embedder is None else {"share": EMBEDDED_SHARE}
        return {"setting": self.size, "factor": AUTO_SHORTLIST_FACTOR, **share}


ShortlistLike: TypeAlias = Size | Embedder | Shortlist | None


def resolve_shortlist(shortlist: ShortlistLike) -> Shortlist | None:
    """Returns the shortlist of an argument: a size, `"auto"`, an embedder, `None`, or a `Shortlist` itself.

    Raises:
        `ValueError`: If the value is none of these, or the size is out of range.
    """
    if shortlist is None or isinstance(shortlist, Shortlist):
        return shortlist
    if isinstance(shortlist, Embedder):
        return Shortlist(embedder=shortlist)
    return Shortlist(check_size(shortlist))


def applicable_shortlist(
    shortlist: ShortlistLike, acquisition: Acquisition, num_examples: int, replace: bool, has_texts: bool = True
) -> Shortlist | None:
    """Returns the shortlist that this acquisition picks from; `None` for the whole pool.

    Args:
        shortlist (`ShortlistLike`):
            What was asked for.
        acquisition (`Acquisition`):
            What picks.
        num_examples (`int`):
            Rows to pick.
        replace (`bool`):
            Whether a row may be picked again.
        has_texts (`bool`, *optional*, defaults to `True`):
            Whether an embedder can be used.

    Raises:
        `ValueError`: If the list would be shorter than the picks, or the acquisition does not compare rows by features.
        `TypeError`: If an embedder is given without texts.
    """
    options = resolve_shortlist(shortlist)
    if options is not None and options.embedder is not None and not has_texts:
        raise TypeError("shortlist: select_rows knows no texts, so give a size or 'auto'; Selector takes an embedder")
    if options is None:
        return None
    if options.size == "auto" and options.embedder is None:
        return options if acquisition.name in DIRECTED_ACQUISITIONS else None
    if reads(acquisition) in ("texts", "lengths") or acquisition.name == "random":
        raise ValueError(
            f"shortlist: acquisition {acquisition.name!r} does not compare rows by their features, so a shortlist of "
            "near rows has no meaning for it; leave shortlist out (None)"
        )
    if not replace and options.size != "auto" and options.size < num_examples:
        raise ValueError(
            f"shortlist={options.size} is smaller than num_examples={num_examples}: give at least as many rows, or "
            "'auto'"
        )
    return options


def check_size(size: Any) -> Size:
    """Returns the size of a shortlist; raises `ValueError` unless it is a whole number of at least 1 or `"auto"`."""
    is_number = isinstance(size, int) and not isinstance(size, bool) and size >= 1
    if not is_number and not (isinstance(size, str) and size == "auto"):
        raise ValueError(
            f"shortlist must be 'auto', a whole number of at least 1, None, or in Selector an embedder, got {size!r}"
        )
    return size  # type: ignore[no-any-return]
