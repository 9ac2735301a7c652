"""Runs the notebooks from top to bottom, as `make test-notebooks` does, and writes them back with their pictures.

    python notebooks/run.py                     # all, with outputs written back
    python notebooks/run.py quickstart.ipynb    # one

They run in the repository's folder, without a display and without the Hub. What depends on the machine (times, progress
bars, warnings on stderr) is not written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
SECONDS_A_CELL = 900


def notebooks() -> list[Path]:
    """All notebooks of this folder."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path) -> NotebookNode:
    """The notebook, run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; says which and how.
    """
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=SECONDS_A_CELL, kernel_name="python3", resources={"metadata": {"path": str(FOLDER.parent)}}
    )
    client.execute()
    return book


def tidy(book: NotebookNode) -> NotebookNode:
    """Leaves out what differs from run to run though nothing has changed."""
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in kept:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output["execution_count"] = None
            cell.outputs = kept
    return book


def main() -> None:
    """Runs those named on the command line, or all."""
    for path in [FOLDER / name for name in sys.argv[1:]] or notebooks():
        print(path.name)
        book = tidy(execute(path))
        nbformat.write(book, path)


if __name__ == "__main__":
    main()
