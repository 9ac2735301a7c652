"""What recipes ship as YAML and as launch commands is understood by those who read it."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

trl = pytest.importorskip("trl")
pytest.importorskip("reasoning_gym")

from accelerate.commands.config.config_args import load_config_from_file  # noqa: E402
from accelerate.commands.launch import launch_command_parser  # noqa: E402
from transformers import HfArgumentParser  # noqa: E402

from itl_hf.cli.train_arguments import parse  # noqa: E402
from recipes.test_time.__main__ import Settings  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "recipes").glob("*/config.yaml"))
ACCELERATE = sorted((REPOSITORY / "recipes" / "accelerate_configs").glob("*.yaml"))
MODULES = ("recipes.instruction_tuning.sft", "recipes.active_rounds.sft", "recipes.test_time.__main__")


def commands(module):
    """The launch commands that a script's docstring opens with, each as words."""
    text = importlib.import_module(module).__doc__.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if re.match(r"    (python|accelerate|torchrun) ", line)]
    lines += re.findall(r"`(itl-hf train [^`]*)`", text)
    assert lines
    return [shlex.split(line, comments=True) for line in lines]


def in_readmes():
    found = []
    for path in sorted((REPOSITORY / "recipes").glob("*/README.md")):
        if path.parent.name not in ("instruction_tuning", "active_rounds", "test_time", "accelerate_configs"):
            continue
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.S | re.M):
            if language:
                continue
            lines = block.replace("\\\n", " ").splitlines()
            found += [(path, shlex.split(line, comments=True)) for line in lines if line.strip()]
    return found


def understood(words, monkeypatch):
    """Reads a command as its programs would, up to the point where work begins."""
    monkeypatch.chdir(REPOSITORY)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "accelerate":
        given = launch_command_parser().parse_args(words[2:])
        assert load_config_from_file(given.config_file).num_processes >= 1
        words = ["python", "-m", given.training_script, *given.training_script_args]
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if words[0] == "itl-hf":
        words = ["python", "-m", "itl_hf", *words[1:]]
    assert words[:2] == ["python", "-m"]
    module, arguments = words[2], words[3:]
    if module == "recipes.test_time":
        HfArgumentParser(Settings).parse_args_into_dataclasses(arguments)
    elif module == "recipes.offline_files":
        assert not arguments
    else:
        if module == "itl_hf":
            assert arguments.pop(0) == "train"
        assert module in ("itl_hf", *MODULES)
        # bf16 of a config for GPUs is refused on a machine without one.
        picking, _, training, _, _ = parse([*arguments, "--use_cpu", "true"])
        picking.check(training.packing)


@pytest.mark.parametrize("module", MODULES)
def test_the_launch_commands_of_a_script_are_understood(module, monkeypatch):
    for words in commands(module):
        understood(words, monkeypatch)


@pytest.mark.parametrize(
    ("path", "words"), in_readmes(), ids=lambda value: getattr(value, "parent", Path()).name or None
)
def test_the_commands_of_the_readmes_are_understood(path, words, monkeypatch):
    understood(words, monkeypatch)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_key_of_a_config_is_an_argument_and_is_taken(path):
    given = yaml.safe_load(path.read_text())
    parsed = parse(["--config", str(path)])
    for name, value in given.items():
        holders = [one for one in parsed if hasattr(one, name)]
        assert holders, name
        taken = getattr(holders[0], name)
        expected = [] if (name, value) == ("report_to", "none") else value  # as TrainingArguments stores it
        assert str(getattr(taken, "value", taken)) == str(expected), name


def test_an_unknown_key_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIGS[0].read_text() + "max_seq_length: 3\n")
    with pytest.raises(ValueError, match="unknown option `max_seq_length`; did you mean max_length"):
        parse(["--config", str(path)])


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path):
    # Its own loader refuses keys that it does not know.
    config = load_config_from_file(str(path))
    kind = getattr(config.distributed_type, "value", config.distributed_type)
    expected = {"cpu": "NO", "fsdp": "FSDP", "multi_gpu": "MULTI_GPU", "single_gpu": "NO"}
    assert kind == expected[path.stem]
    assert config.use_cpu is (path.stem == "cpu")


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_launch_would_take_its_configs(path):
    # The step of `accelerate launch` that merges flags and file, and turns FSDP's keys into what processes are told.
    from accelerate.commands.launch import _validate_launch_command
    from accelerate.utils.launch import prepare_multi_gpu_env

    given = launch_command_parser().parse_args(["--config_file", str(path), "-m", "recipes.instruction_tuning.sft"])
    given, *_ = _validate_launch_command(given)
    assert given.num_processes == load_config_from_file(str(path)).num_processes
    if path.stem == "fsdp":
        environment = prepare_multi_gpu_env(given)
        assert environment["FSDP_VERSION"] == "2"
        assert environment["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
        assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
