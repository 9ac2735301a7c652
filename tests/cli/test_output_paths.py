"""Output paths that cannot be written are refused before the model runs, and nothing of others is ever replaced."""

from __future__ import annotations

import json

import pytest

from itl_hf import Selection
from itl_hf.embedding.embedders.hidden_states import HiddenStates


@pytest.fixture
def asleep(monkeypatch):
    """No model runs."""

    def fail(*arguments, **options):
        raise AssertionError("the model ran")

    monkeypatch.setattr(HiddenStates, "embed_prepared", fail)


@pytest.fixture
def places(tmp_path):
    """A file, a folder of somebody, one that has the name of a selection's file in it, and an earlier selection."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "notes.txt").write_text("mine")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "targets.parquet").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "selection.json").write_text("{")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "selection.json").write_text(json.dumps({"format_version": 1}))
    return tmp_path


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (("--output_dir", "file"), NotADirectoryError, "--output_dir .*file is a file, not a folder"),
        (("--output_dir", "file/deeper"), NotADirectoryError, "--output_dir .*is a file, not a folder"),
        (
            ("--output_dir", "busy"),
            FileExistsError,
            r"--output_dir .*other files \(notes\.txt\).*--overwrite.*are kept",
        ),
        (("--output_dir", "."), FileExistsError, "--output_dir .*no selection but other files .*--overwrite"),
        (("--output_dir", "taken", "--overwrite"), FileExistsError, r"targets\.parquet is not of a selection"),
        (("--output_dir", "damaged", "--overwrite"), FileExistsError, r"selection\.json is damaged, or is not"),
        (("--output_dir", "earlier"), FileExistsError, "--output_dir .*holds a selection already.*--overwrite"),
        (("--output_dir", "new", "--report", "busy"), IsADirectoryError, "--report .*busy is a folder"),
        (("--output_dir", "new", "--report", "file/r.html"), NotADirectoryError, "--report .*file is a file"),
        (("--output_dir", "new", "--store", "file"), NotADirectoryError, "--store .*file is a file"),
    ],
)
def test_paths_are_refused_before_the_model_runs(files, run, asleep, places, monkeypatch, options, error, said):
    before = content(places)
    monkeypatch.chdir(places)
    command = ("select", "--pool", files / "pool.jsonl", "--targets", files / "targets.txt", "--num_examples", 3)
    result = run(*command, "--model", files / "model", *options)
    assert isinstance(result.exception, error), result.output
    with pytest.raises(error, match=said):
        raise result.exception
    assert content(places) == before


def test_a_selection_is_written_beside_other_files_on_request(files, run, places, monkeypatch):
    command = ("select", "--config", files / "run.yaml", "--overwrite", "--output_dir")
    for folder in ("busy", "earlier"):
        assert run(*command, places / folder).exit_code == 0
        assert len(Selection.load(places / folder)) == 3
    assert (places / "busy" / "notes.txt").read_text() == "mine"
    (places / "empty").mkdir()
    monkeypatch.chdir(places / "empty")
    assert run("select", "--config", files / "run.yaml", "--output_dir", ".").exit_code == 0
    assert len(Selection.load(".")) == 3
    monkeypatch.setenv("HOME", str(places))
    result = run("select", "--config", files / "run.yaml", "--output_dir", "~/at home", "--report", "~/r/report.html")
    assert result.exit_code == 0, result.output
    assert len(Selection.load(places / "at home")) == 3
    assert (places / "r" / "report.html").is_file()
    assert not (places / "empty" / "~").exists()


def test_other_commands_refuse_their_outputs_at_once(run, places, monkeypatch):
    monkeypatch.chdir(places)
    for command in (
        ("report", "nowhere", "--path", "busy"),
        ("push", "nowhere", "me/x", "--preview", "busy"),
        ("explore", "nowhere", "--space", "busy"),
        ("push", "nowhere", "me/x", "--preview", "."),
        ("embed", "nowhere.jsonl", "--store", "file"),
    ):
        result = run(*command)
        assert isinstance(result.exception, IsADirectoryError | FileExistsError | NotADirectoryError), command


def test_train_refuses_an_earlier_selection_of_other_arguments(files, run, asleep, tmp_path):
    pytest.importorskip("trl")
    folder = tmp_path / "out" / "selection"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    command = ("train", "--model_name_or_path", files / "model", "--dataset_name", files / "pool.jsonl", "--use_cpu")
    command += ("--targets", files / "targets.txt", "--num_examples", 3, "--report_to", "none", "--bf16", "False")
    result = run(*command, "--output_dir", tmp_path / "out")
    assert isinstance(result.exception, FileExistsError), result.output
    assert "output_dir/selection" in str(result.exception)
    (tmp_path / "file").write_text("mine")
    result = run(*command, "--output_dir", tmp_path / "file")
    assert isinstance(result.exception, NotADirectoryError), result.output
