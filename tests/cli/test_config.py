"""`--config`: a file means what the flags mean."""

from __future__ import annotations

import json

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from itl_hf.cli.arguments import EmbedderArguments, ModelArguments, with_arguments
from itl_hf.cli.config import ConfigOption
from itl_hf.cli.main import app


def read(text, tmp_path, *flags):
    """What a command with options of every kind gets."""
    echo = typer.Typer(rich_markup_mode=None)

    @echo.command()
    @with_arguments
    def show(
        embedding: EmbedderArguments,
        model: ModelArguments,
        rows: int = 1,
        share: float | None = None,
        name: str = "none",
        config: ConfigOption = None,
    ):
        values = [rows, share, name, embedding.layer, embedding.embedder, model.revision, model.packing]
        typer.echo(json.dumps(values))

    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(echo, ["--config", str(tmp_path / "run.yaml"), *flags])
    return json.loads(result.output) if result.exit_code == 0 else (result.exit_code, " ".join(result.output.split()))


def test_values_of_every_kind(tmp_path):
    text = "rows: 3\nshare: 0.5\nname: 7\nlayer: [0.5, 0.75]\nembedder: gradients\nmodel_revision: v1\npacking: true\n"
    assert read(text, tmp_path) == [3, 0.5, "7", "0.5,0.75", "gradients", "v1", True]
    assert read(text, tmp_path, "--rows", "4", "--layer", "2")[:4] == [4, 0.5, "7", "2"]
    assert read("layer: 1\nshare:\n", tmp_path) == [1, None, "none", "1", "hidden_states", None, False]
    assert read("", tmp_path)[0] == 1
    # Numbers stay as they are written.
    assert read("name: 1.10\nshare: 1e-3\nlayer: [0.50, -1]\n", tmp_path)[1:4] == [0.001, "1.10", "0.50,-1"]
    assert read("name: '010'\npacking: off\n", tmp_path)[2:] == ["010", None, "hidden_states", None, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rwos: 3", "unknown option `rwos`; did you mean `rows`?"),
        ("config: other.yaml", "unknown option `config`"),
        ("revision: a\nmodel_revision: b", "`model_revision` is given twice"),
        ("rows: {a: 1}", "`rows` must be a number, a text or a list of them"),
        ("- rows", "must hold `option: value` lines"),
        ("rows: [", "cannot be read as YAML"),
        ("rows: many", "Invalid value for '--rows'"),
        ("rows: 3\nrows: 5", "run.yaml: `rows` is given twice, the second time in line 2"),
        ("name: {a: b, a: c}", "`a` is given twice"),
        ("rows: true", "`rows` is no switch, and YAML reads its value"),
        ("name: no", "`name` is no switch, and YAML reads its value (such as yes, no, on, off) as false"),
        ("layer: [true]", "`layer` must be a number, a text or a list of them"),
        ("packing: 1", "`packing` must be true or false"),
        ("packing: maybe", "`packing` must be true or false"),
        ("rows: 010", "line 1: YAML reads 010 as 8"),
        ("rows: 0x10", "YAML reads 0x10 as 16"),
        ("rows: 1_000", "YAML reads 1_000 as 1000"),
        ("\nshare: 1:30", "line 2: YAML reads 1:30 as 90"),
        ("share: .nan", "YAML reads .nan as nan"),
        ("name: 2024-01-02", "`name` must be a number, a text or a list of them"),
    ],
)
def test_what_is_wrong_is_said(text, said, tmp_path):
    code, output = read(text, tmp_path)
    assert code == 2
    assert said in output


def test_a_file_that_is_not_there(files, run, tmp_path):
    result = run("select", "--config", tmp_path / "absent.yaml")
    assert result.exit_code == 2
    assert "cannot be read" in result.output


@pytest.mark.parametrize("name", ["embed", "select"])
def test_every_option_can_stand_in_the_file(name, tmp_path, run):
    command = get_command(app).commands[name]
    spellings = [
        option.lstrip("-")
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and parameter.name not in ("config", "help")
    ]
    assert "store" in spellings
    assert "model" in spellings
    for spelling in [*spellings, "data"] if name == "embed" else spellings:
        (tmp_path / "run.yaml").write_text(f"{spelling}:\nabsent_option: 1\n", encoding="utf-8")
        result = run(name, "--config", tmp_path / "run.yaml")
        assert "unknown option `absent_option`" in " ".join(result.output.split()), spelling


@pytest.mark.parametrize("name", ["embed", "select", "report", "diagnose", "push"])
def test_every_option_is_explained_within_80_columns(name, run):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    for parameter in get_command(app).commands[name].params:
        assert parameter.help, parameter.name
