"""The sentence about a shortlist in `diagnose()`, the report and the card."""

from __future__ import annotations

from itl_hf.selection.result.record import SelectionRecord


def shortlist_sentence(record: SelectionRecord) -> str:
    """Says that the rows were picked from a shortlist and what that gives up; `""` if they were not."""
    entry = record.shortlist
    if entry is None:
        return ""
    num_copies = int(entry["near_duplicates"])
    copies = f" ({num_copies:,} near-duplicates among them)" if num_copies else ""
    index = " found by an approximate index," if "index" in entry else ""
    features = "the cheaper features of another embedder" if "embedder" in entry else "the same features"
    return (
        f"The picks are from a shortlist of {int(entry['size']):,} of the {record.pool_rows:,} rows,{index} the "
        f"targets' nearest by {features}{copies}: the choice is exact among these candidates, not over the pool."
    )
