"""Committed notebooks are tidy; with `make test-notebooks` every notebook also runs from top to bottom."""

from __future__ import annotations

import importlib.util
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
