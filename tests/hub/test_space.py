"""The folder of the Space is complete and has nothing that is not published. A browser test checks that it runs."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from itl_hf import Selection
from itl_hf.hub.space import requirements, upload_command, write_space
from itl_hf.selection.result.columns import WITHHELD_COLUMN
from tests.report.explorer.example import make_example


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return make_example(tmp_path_factory.mktemp("space"))


def test_the_folder_holds_what_a_space_needs(example, tmp_path):
    space = write_space(example.selection, tmp_path / "space")
    ast.parse((space / "app.py").read_text(encoding="utf-8"))
    _, head, body = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(head)
    assert (facts["sdk"], facts["app_file"]) == ("gradio", "app.py")
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts["sdk_version"])
    assert "30 rows" in body
    assert (space / "itl_hf" / "report" / "explorer" / "static" / "map.js").exists()
    assert not list(space.rglob("__pycache__"))
    assert Selection.load(space / "selection").indices.tolist() == example.selection.indices.tolist()


def test_targets_are_included_only_on_request(example, tmp_path):
    space = write_space(example.selection, tmp_path / "closed")
    assert WITHHELD_COLUMN in Selection.load(space / "selection").targets.column_names
    prompts = [prompt.encode() for prompt in example.targets["prompt"]]
    for file in space.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(prompt in content for prompt in prompts), file
    assert "does not include the target prompts" in (space / "README.md").read_text(encoding="utf-8")
    open_space = write_space(example.selection, tmp_path / "open", include_targets=True)
    assert Selection.load(open_space / "selection").targets["prompt"][:] == example.targets["prompt"][:]


def test_requirements_are_those_of_the_package_without_gradio():
    index, *lines = requirements()
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    names = {Requirement(line).name for line in lines}
    assert {"torch", "datasets", "matplotlib", "jinja2"} <= names
    assert not {"gradio", "itl-hf", "trl", "pytest"} & names


def test_torch_is_the_build_without_cuda_of_this_version(monkeypatch):
    from itl_hf.hub import space as module

    version = module.metadata.version
    for own, line in (("2.11.0+cu128", "torch==2.11.0+cpu"), ("2.12.1", "torch==2.12.1+cpu")):
        monkeypatch.setattr(module.metadata, "version", lambda name, own=own: own if name == "torch" else version(name))
        assert line in requirements()
    monkeypatch.setattr(module.metadata, "version", lambda name: "2.14.0.dev20261101+cpu")  # not in the index for long
    assert not [line for line in requirements() if line.startswith("torch==")]


def test_the_line_that_uploads_the_folder():
    assert upload_command(Path("/tmp/my space")) == "hf upload YOUR_NAME/my-space '/tmp/my space' . --repo-type space"
    command, *words = shlex.split(upload_command(Path("space")))
    assert command == "hf"
    tool = [sys.executable, "-m", "huggingface_hub.cli.hf"]
    result = subprocess.run([*tool, *words, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--repo-type" in result.stdout


def test_a_hostile_title_is_escaped(example, tmp_path):
    title = "a: [b](http://example.com) <script>\n---\nsdk: docker"
    text = (write_space(example.selection, tmp_path / "s", title=title) / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(text.split("\n---\n\n#")[0].removeprefix("---\n"))["sdk"] == "gradio"
    assert "<script>" not in text.split("\n---\n\n#")[1]


def test_nothing_is_overwritten(example, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"):
        write_space(example.selection, tmp_path)
