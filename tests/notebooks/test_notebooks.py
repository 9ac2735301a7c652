"""Committed notebooks are tidy; with `make test-notebooks` every notebook also runs from top to bottom."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[2] / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES = 300_000

spec = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


def stem(book):
    return book.stem


@pytest.mark.parametrize("path", BOOKS, ids=stem)
def test_a_committed_notebook_is_small_has_outputs_and_no_paths_of_a_machine(path):
    assert path.stat().st_size < MAX_BYTES
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert any(output.output_type != "stream" for cell in code for output in cell.outputs), "committed without pictures"
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    text = path.read_text(encoding="utf-8")
    assert "/work/" not in text
    assert "site-packages" not in text


@pytest.mark.parametrize("path", BOOKS, ids=stem)
def test_a_notebook_runs_in_colab_from_the_package_index(path):
    book = nbformat.read(path, as_version=4)
    first, setup = book.cells[0].source, book.cells[1].source
    address = f"https://colab.research.google.com/github/itl-hf/itl-hf/blob/main/notebooks/{path.name}"
    assert first.startswith(f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})")
    code = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    assert "recipes" not in code
    assert "tests." not in code
    (install,) = [line for line in setup.splitlines() if "%pip install" in line]
    assert "itl-hf[" in install
    assert set(re.findall(r"itl-hf\[([\w,-]+)\]", install)[0].split(",")) <= {"report", "sentence-transformers"}
    # Relative links lead nowhere in Colab.
    assert not [cell.source for cell in book.cells if cell.cell_type == "markdown" and "](../" in cell.source]


def test_run_lists_all_notebooks():
    assert [path.stem for path in run.notebooks()] == [
        "choosing_features_and_noise",
        "diagnosing_a_pool",
        "few_shot_classification",
        "quickstart",
        "rbf_example",
    ]


def test_tidy_leaves_out_what_differs_from_run_to_run():
    cell = nbformat.v4.new_code_cell("1", execution_count=7, metadata={"execution": {"iopub.status.busy": "now"}})
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="selecting: 100%"),
        nbformat.v4.new_output("execute_result", data={"text/plain": "1"}, execution_count=7),
    ]
    book = run.tidy(nbformat.v4.new_notebook(cells=[cell]))
    nbformat.validate(book)
    (output,) = book.cells[0].outputs
    assert output.data == {"text/plain": "1"}
    assert book.cells[0].execution_count is None
    assert not book.cells[0].metadata


@pytest.mark.notebooks
@pytest.mark.parametrize("path", BOOKS, ids=stem)
def test_notebook_runs_from_top_to_bottom(path):
    before = path.read_bytes()
    book = run.execute(path)
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
    assert path.read_bytes() == before
