"""The table of options, the names, the examples and the completion: all made from the commands as they are."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from itl_hf import (
    ITL,
    EndpointEmbedder,
    Gradients,
    HiddenStates,
    Selection,
    SelectionConstraints,
    Selector,
    SentenceEncoder,
    embed,
)
from itl_hf.cli.arguments import EmbedderArguments, PickingArguments
from itl_hf.cli.examples import EXAMPLES
from itl_hf.cli.main import app
from itl_hf.cli.output import SHARED
from itl_hf.cli.train_arguments import SelectionArguments
from itl_hf.report.page import write_report
from itl_hf.selection.diagnosis.diagnosis import Diagnosis
from itl_hf.selection.shortlist.index_file import build_index

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app).commands
EMBEDDERS = (HiddenStates, Gradients, SentenceEncoder, EndpointEmbedder)
PYTHON = {
    "embed": (*EMBEDDERS, Selector, embed),
    "select": (*EMBEDDERS, Selector, Selector.select, SelectionConstraints, ITL),
    "index": (Selector, build_index),
    "report": (write_report,),
    "diagnose": (Diagnosis.table,),
    "push": (Selection.push_to_hub,),
    "export": (Selection.export,),
}
#: What Python does with another object or not at all: `load_dataset`, `StopWhen`, `Shortlist`, `Selection.save`.
ELSEWHERE = {
    "embed": {"data", "dataset_name", "dataset_train_split", "dataset_config", "dry_run"},
    "index": {"min_rows"},
    "select": {
        *("pool_config", "targets_config", "shortlist_model", "stop_gain", "stop_variance_left", "output_dir"),
        *("report", "dry_run", "no_store", "overwrite", "embedding_column", "replay_method", "avoid_weight"),
        *("report_to", "logging_dir"),
    },
    "report": set(),
    "diagnose": {"selection"},
    "push": {"selection", "preview"},
    "export": {"selection"},
}


def generator():
    spec = importlib.util.spec_from_file_location("command_line_page", ROOT / "docs" / "command_line.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_commands():
    module = generator()
    written = module.PAGE.read_text(encoding="utf-8")
    assert written == module.page(), "run `make docs` and commit docs/command_line.md"


@pytest.mark.parametrize("command", PYTHON)
def test_options_have_the_names_of_the_python_arguments(command):
    known = {name for thing in PYTHON[command] for name in inspect.signature(thing).parameters}
    strangers = set()
    for one in COMMANDS[command].params:
        if one.name not in (*SHARED, "help", "config"):
            names = {one.name, *(option.lstrip("-") for option in one.opts)}
            if not names & known:
                strangers.add(one.name)
    assert strangers == ELSEWHERE[command]


def test_train_takes_the_embedders_options_under_their_names():
    known = {name for kind in EMBEDDERS for name in inspect.signature(kind).parameters}
    ours = {one.name for one in dataclasses.fields(EmbedderArguments)} - {"embedder"}
    assert ours <= known
    assert ours <= {one.name for one in dataclasses.fields(SelectionArguments)}


def test_train_takes_what_select_takes():
    picking = {one.name for one in dataclasses.fields(PickingArguments)}
    assert picking <= {one.name for one in COMMANDS["select"].params}
    assert picking <= {one.name for one in dataclasses.fields(SelectionArguments)}


@pytest.mark.parametrize("command", [name for name in EXAMPLES if name in COMMANDS])
def test_help_teaches_by_examples_that_the_command_understands(command):
    shown = CliRunner().invoke(app, [command, "--help"], terminal_width=80).stdout
    shown = re.sub(r" \\\n +", " ", shown)  # lines that go on
    for why, line in EXAMPLES[command]:
        assert f"  # {why}\n" in shown
        assert f"  {line}\n" in shown
        words = shlex.split(line)
        words = words[words.index(command) + 1 :]
        options = {option for one in COMMANDS[command].params for option in one.opts}
        if command != "train":
            assert {word for word in words if word.startswith("--")} <= options


def test_every_command_has_examples():
    assert set(COMMANDS) <= set(EXAMPLES)


def test_completion():
    environment = {**os.environ, "_ITL_HF_COMPLETE": "complete_bash", "COMP_WORDS": "itl-hf di", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['itl-hf']; from itl_hf.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["diagnose"]
