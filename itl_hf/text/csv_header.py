"""The first line of a table of texts, whose mistakes pandas hides: columns of one name, another separator."""

from __future__ import annotations

import csv

import fsspec

#: Separators of other programs, of which no name of a column holds one.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "'|'", ",": "commas"}
_NAMES = {",": "commas", "\t": "tabs"}


def check_header(name: str, separator: str) -> None:
    """Checks the names of the columns of a CSV or TSV file; what cannot be read here is left to the reader of rows.

    Args:
        name (`str`):
            Path or address of the file, perhaps compressed.
        separator (`str`):
            What separates its cells.

    Raises:
        `ValueError`: If two columns have one name, or the only column seems to be several with another separator.
    """
    try:
        with fsspec.open(name, "rt", encoding="utf-8-sig", compression="infer", newline="") as file:
            columns = next(csv.reader(file, delimiter=separator), [])
    except Exception:  # the reader of rows says what is wrong with the file
        return
    twice = sorted({column for column in columns if column and columns.count(column) > 1})
    if twice:
        raise ValueError(f"{name} has two columns called {twice[0]!r}: give one of them another name, or delete it")
    others = [other for other in _OTHER_SEPARATORS if other != separator and other in columns[0]] if columns else []
    if len(columns) == 1 and others:
        raise ValueError(
            f"{name} has one column, called {columns[0]!r:.80}: its cells seem to be separated by "
            f"{_OTHER_SEPARATORS[others[0]]}, and must be by {_NAMES[separator]}. Write it again so"
        )
