"""The output folder of `itl-hf train` is refused before a model is loaded, and belongs to one run at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from itl_hf.cli.training_folder import check_training_folder, training_folder
from itl_hf.disk.checks import foreign_names
from itl_hf.disk.lock import lock_folder

pytest.importorskip("trl")


@pytest.fixture
def train(run, files, monkeypatch, tmp_path):
    """The command with an output folder, and models that cannot be loaded."""
    from transformers import PreTrainedModel

    def fail(*arguments, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", fail)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    options = (
        "--dataset_name",
        files / "pool.jsonl",
        "--targets",
        files / "targets.txt",
        "--use_cpu",
        "--bf16",
        "False",
    )
    model = ("--model_name_or_path", files / "model", "--report_to", "none")

    def call(output_dir, *words, num_examples=("--num_examples", 3)):
        return run("train", *options, *model, *num_examples, "--output_dir", output_dir, *words)

    return call


@pytest.mark.parametrize("way", [("--num_examples", 3), ("--examples_per_round", 3)])
def test_folders_of_others_are_refused(train, files, tmp_path, way):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "home" / "notes").mkdir()
    (tmp_path / "home" / "notes" / "README.md").write_text("mine")
    cases = {
        "file": (NotADirectoryError, "--output_dir .*file is a file, not a folder"),
        "file/deeper": (NotADirectoryError, "--output_dir .*is a file, not a folder"),
        "~/notes": (FileExistsError, r"--output_dir .*home/notes holds other files .*\(README\.md\).*--overwrite"),
        str(files / "model"): (FileExistsError, "is the folder of --model_name_or_path, whose weights"),
    }
    if Path("/proc/self").exists():
        cases["/proc/new"] = (PermissionError, "--output_dir .*nothing can be written in /proc")
    for folder, (error, message) in cases.items():
        result = train(folder, num_examples=way)
        assert isinstance(result.exception, error), (folder, result.output)
        with pytest.raises(error, match=message):
            raise result.exception
    assert (tmp_path / "home" / "notes" / "README.md").read_text() == "mine"
    assert not (tmp_path / "~").exists()
    with lock_folder(tmp_path / "home" / "notes", "test"):
        result = train("~/notes", "--overwrite", num_examples=way)
    with pytest.raises(BlockingIOError, match="another run is training into this folder"):
        raise result.exception
    result = train("~/notes", "--overwrite", num_examples=way)  # passes the checks
    assert "a model was loaded" in str(result.exception)


def test_folders_of_earlier_runs_are_taken(tmp_path):
    (tmp_path / "only logs" / "runs").mkdir(parents=True)
    check_training_folder(tmp_path / "only logs", False, None)
    for own in ("checkpoint-3", "training_args.bin", "selection"):
        folder = tmp_path / f"with {own}"
        (folder / own).mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        check_training_folder(folder, False, "someone/model")


def test_a_run_that_died_leaves_a_folder_that_the_next_one_takes(tmp_path):
    folder = tmp_path / "out"
    number = os.fork()
    if number == 0:
        try:
            with training_folder(folder):
                (folder / "model.safetensors").write_text("half")
                os._exit(0)
        finally:
            os._exit(1)  # an error must not go on with the tests in this process
    assert os.waitpid(number, 0)[1] == 0
    check_training_folder(folder, False, None)
    with training_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
    with pytest.raises(FileExistsError, match=r"other files .*\(model\.safetensors\)"):
        check_training_folder(folder, False, None)


def test_an_error_leaves_nothing_or_what_was_written(tmp_path):
    for file in (None, "model.safetensors"):
        folder = tmp_path / str(file)

        def work(folder=folder, file=file):
            with training_folder(folder):
                if file is not None:
                    (folder / file).write_text("half")
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            work()
        assert folder.exists() == (file is not None)
        check_training_folder(folder, False, None)
        assert foreign_names(folder) == ([] if file is None else [file])
