"""Runs notebooks from top to bottom and saves them with their outputs.

    python notebooks/run.py                     # all
    python notebooks/run.py quickstart.ipynb    # one

They run in the repository's folder, without a display and without the Hub: the models that they name are taken from
installed packages. Outputs that depend on the machine (times,
progress bars, warnings on stderr) are not saved. `make test-notebooks` runs them without saving.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.benchmarks.pools import minilm
from recipes.offline import smollm2

FOLDER = Path(__file__).parent
SECONDS_PER_CELL = 900


def notebooks() -> list[Path]:
    """Returns the paths of all notebooks in this folder."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path) -> NotebookNode:
    """Runs a notebook and returns it with its outputs.

    Raises:
        `nbclient.exceptions.CellExecutionError`: If a cell fails. The message names the cell and the error.
    """
    os.environ |= {
        "ITL_HF_NOTEBOOK_MODEL": str(smollm2()),
        "ITL_HF_NOTEBOOK_ENCODER": str(minilm()),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=SECONDS_PER_CELL, kernel_name="python3", resources={"metadata": {"path": str(FOLDER.parent)}}
    )
    client.execute()
    return book


def tidy(book: NotebookNode) -> NotebookNode:
    """Removes everything that differs between two runs of the same notebook."""
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output["execution_count"] = None
            cell.outputs = outputs
    return book


def main() -> None:
    """Runs the notebooks named on the command line, or all."""
    for path in [FOLDER / name for name in sys.argv[1:]] or notebooks():
        print(path.name)
        book = tidy(execute(path))
        nbformat.write(book, path)


if __name__ == "__main__":
    main()
