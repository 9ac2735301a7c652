"""The YAML configs and launch commands of the recipes are accepted by the programs that read them."""

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
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser  # noqa: E402

from itl_hf import SelectionArguments  # noqa: E402
from itl_hf.cli.train_arguments import parse  # noqa: E402
from recipes.learnability.__main__ import Settings as LearnabilitySettings  # noqa: E402
from recipes.less.__main__ import Settings as LESSSettings  # noqa: E402
from recipes.test_time.__main__ import Settings as TestTimeSettings  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "recipes").glob("*/config.yaml"))
ACCELERATE = sorted((REPOSITORY / "recipes" / "accelerate_configs").glob("*.yaml"))
#: Recipes with settings of their own, by the module that is run.
SETTINGS = {
    "recipes.test_time": TestTimeSettings,
    "recipes.less": LESSSettings,
    "recipes.learnability": LearnabilitySettings,
}
SCRIPTS = ("recipes.instruction_tuning.sft", "recipes.active_rounds.sft")
MODULES = (*SCRIPTS, *(f"{module}.__main__" for module in SETTINGS))
#: Folders whose READMEs hold commands.
FOLDERS = ("instruction_tuning", "active_rounds", "accelerate_configs", "test_time", "less", "learnability")


def commands(module):
    """Returns the launch commands in a script's docstring, each as a list of words."""
    text = importlib.import_module(module).__doc__.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if re.match(r"    (python|accelerate|torchrun) ", line)]
    lines += re.findall(r"`(itl-hf train [^`]*)`", text)
    assert lines
    return [shlex.split(line, comments=True) for line in lines]


def readme_commands():
    """Returns the path of a README and a command in it, for all commands."""
    pairs = []
    for path in sorted((REPOSITORY / "recipes").glob("*/README.md")):
        if path.parent.name not in FOLDERS:
            continue
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.S | re.M):
            if language:
                continue
            lines = block.replace("\\\n", " ").splitlines()
            pairs += [(path, shlex.split(line, comments=True)) for line in lines if line.strip()]
    return pairs


def parse_command(words, monkeypatch):
    """Parses a command as its programs do, without running it."""
    monkeypatch.chdir(REPOSITORY)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "accelerate":
        launch_options = launch_command_parser().parse_args(words[2:])
        assert load_config_from_file(launch_options.config_file).num_processes >= 1
        words = ["python", "-m", launch_options.training_script, *launch_options.training_script_args]
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if words[0] == "itl-hf":
        words = ["python", "-m", "itl_hf", *words[1:]]
    assert words[:2] == ["python", "-m"]
    module, arguments = words[2], words[3:]
    if module in SETTINGS:
        TrlParser(SETTINGS[module]).parse_args_and_config(arguments)
    elif module == "recipes.offline_files":
        assert all(name.startswith("outputs/offline/") for name in arguments)
    else:
        arguments = [*arguments, "--use_cpu", "true"]  # bf16 of a config for GPUs is refused on a machine without one
        if module == "itl_hf":
            assert arguments.pop(0) == "train"
            options, _, training, *_ = parse(arguments)
        else:
            assert module in SCRIPTS
            options, _, training, _ = script_parser().parse_args_and_config(arguments)
        options.check(training.packing)


def script_parser():
    """Returns the parser that the training scripts use."""
    return TrlParser((SelectionArguments, ScriptArguments, SFTConfig, ModelConfig))


@pytest.mark.parametrize("module", MODULES)
def test_the_launch_commands_of_a_script_are_accepted(module, monkeypatch):
    for words in commands(module):
        parse_command(words, monkeypatch)


@pytest.mark.parametrize(
    ("path", "words"), readme_commands(), ids=lambda value: getattr(value, "parent", Path()).name or None
)
def test_the_commands_of_the_readmes_are_accepted(path, words, monkeypatch):
    parse_command(words, monkeypatch)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("parser", ["command", "script"])
def test_every_key_of_a_config_is_an_argument_and_sets_it(path, parser):
    words = ["--config", str(path)]
    groups = parse(words) if parser == "command" else script_parser().parse_args_and_config(words)
    for name, value in yaml.safe_load(path.read_text()).items():
        holders = [group for group in groups if hasattr(group, name)]
        assert holders, name
        attribute = getattr(holders[0], name)
        expected_value = [] if (name, value) == ("report_to", "none") else value  # as TrainingArguments stores it
        assert str(getattr(attribute, "value", attribute)) == str(expected_value), name


def test_an_unknown_key_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIGS[0].read_text() + "max_seq_length: 3\n")
    with pytest.raises(ValueError, match="unknown option `max_seq_length`; did you mean max_length"):
        parse(["--config", str(path)])
    with pytest.raises(ValueError, match="max_seq_length"):
        script_parser().parse_args_and_config(["--config", str(path)])


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path):
    # The loader of accelerate refuses unknown keys.
    config = load_config_from_file(str(path))
    kind = getattr(config.distributed_type, "value", config.distributed_type)
    expected_value = {"cpu": "NO", "fsdp": "FSDP", "multi_gpu": "MULTI_GPU", "single_gpu": "NO"}
    assert kind == expected_value[path.stem]
    assert config.use_cpu is (path.stem == "cpu")


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_launch_accepts_its_configs(path):
    # The step of `accelerate launch` that merges flags and file and turns FSDP's keys into environment variables.
    from accelerate.commands.launch import _validate_launch_command
    from accelerate.utils.launch import prepare_multi_gpu_env

    options = launch_command_parser().parse_args(["--config_file", str(path), "-m", "recipes.instruction_tuning.sft"])
    options, *_ = _validate_launch_command(options)
    assert options.num_processes == load_config_from_file(str(path)).num_processes
    if path.stem == "fsdp":
        environment = prepare_multi_gpu_env(options)
        assert environment["FSDP_VERSION"] == "2"
        assert environment["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
        assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
