"""Sizes of files in words."""

from __future__ import annotations

from pathlib import Path


def size(count: int) -> str:
    """Formats a number of bytes.

    Example:
        >>> size(3 * 2**20), size(800)
        ('3.0 MiB', '1 KiB')
    """
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{-(-count // 1024)} KiB"


def folder_bytes(folder: Path) -> int:
    """Returns the bytes of all files in a folder, 0 if there is none. Files that vanish meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
