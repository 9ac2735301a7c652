"""What the commands print for `-h`, and without any argument."""

from __future__ import annotations

import re
from dataclasses import fields
from inspect import signature

import pytest

from itl_hf import HiddenStates, SentenceEncoder
from itl_hf.cli.arguments import EmbedderArguments, ModelArguments
from itl_hf.cli.help_groups import GROUPS, SHOWN_DEFAULTS
from itl_hf.cli.train_arguments import SelectionArguments
from itl_hf.embedding.embedders.gradients import Gradients

ROUNDS = {"examples_per_round", "candidates_per_round"}


@pytest.mark.parametrize("command", [[], ["select"], ["export"], ["train"]], ids=" ".join)
def test_short_and_long_help_are_the_same(run, command):
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    assert "Usage:" in short.output


def test_train_without_arguments_says_that_the_data_is_missing(run):
    pytest.importorskip("trl")
    assert "--dataset_name is missing: the rows to pick from" in str(run("train").exception)


def test_an_endpoint_needs_a_model_name_and_an_address(run, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    rows = str(tmp_path / "rows.jsonl")
    options = ("--pool", rows, "--targets", rows, "--num_examples", "1", "--output_dir", tmp_path / "out")
    for more in ([], ["--url", "http://127.0.0.1:9"], ["--model", "m"]):
        assert "needs --url" in str(run("select", *options, "--embedder", "endpoint", *more).exception)


EMBEDDERS = {"hidden_states": HiddenStates, "gradients": Gradients, "sentence_encoder": SentenceEncoder}


def test_shown_defaults_are_those_of_the_embedders():
    """Options left out keep the embedder's default; what is shown must be that."""
    for one in [*fields(EmbedderArguments), *fields(ModelArguments)]:
        defaults = {
            str(signature(kind).parameters[one.name].default)
            for kind in EMBEDDERS.values()
            if one.name in signature(kind).parameters
        } - {"None", "False", "<class 'inspect._empty'>"}
        shown = SHOWN_DEFAULTS.get(one.name, str(one.default))
        if one.name not in ("device", "max_length"):  # depend on machine and model
            assert defaults <= set(re.findall(r"[\w.]+", shown)), one.name


def test_options_are_in_groups_that_say_what_they_are_about(run):
    pages = {name: run(name, "-h").output for name in ("select", "embed", "train")}
    for headings in (re.findall(r"^([A-Z]\w+):$", page, re.MULTILINE) for page in pages.values()):
        assert headings == [one for one in ("Arguments", "Options", *GROUPS) if one in headings]
        assert {"Features", "Output"} <= set(headings)
    assert "Limits:" in pages["select"].partition("--token_budget")[0]
    known_names = {one.name for one in fields(SelectionArguments)} | {one.name for one in fields(ModelArguments)}
    in_groups = {name for names in GROUPS.values() for name in names}
    assert known_names - in_groups == {"targets", "num_examples", "order", "selection", *ROUNDS}


def test_train_lists_our_options_with_their_defaults(run):
    words = " ".join(run("train", "--help").output.split())
    for one in fields(SelectionArguments):
        assert f"--{one.name}" in words
    for line in ("--order <str>", "[default: shuffled]", "--span <prompt|completion|whole>", "[default: 0.75]"):
        assert line in words


@pytest.mark.parametrize("command", ["cache", "diagnose", "embed", "explore", "export", "push", "report"])
def test_usage_has_no_braces(run, command):
    assert not set("{}") & set(run(command, "-h").output.partition("\n\n")[0])
    assert not set("{}") & set(run(command, "--no_such_option").output.partition("\n")[0])
