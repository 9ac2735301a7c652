"""Reads exports with the trainers' own readers: `python -m tests.selection.export.check_readers`.

The packages are installed without their dependencies (`pip install --no-deps llamafactory==0.9.5 torchtune==0.6.1
axolotl==0.19.0 verl==0.9.1`), which need GPUs or are large: only the modules that read rows are imported. It prints
one line for each reader, and ends with an error if one of them reads other rows.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace

import yaml
from datasets import load_dataset

from tests.selection.export.rows import CHATS, HISTORY, PAIRS, TEXTS, TOOL_CHATS, messages_of, select
from tests.tiny_models import tiny_tokenizer


def bare_package(*names):
    """Makes packages importable without running their `__init__`, which imports all of the trainer."""
    for name in names:
        spec = importlib.machinery.PathFinder.find_spec(name.partition(".")[0])
        folder = Path(spec.submodule_search_locations[0]).joinpath(*name.split(".")[1:])
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def rows_of(path, kind, folder):
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(folder / "cache"))


def check_llama_factory(folder):
    bare_package("llamafactory", "llamafactory.data", "llamafactory.extras")
    constants = types.ModuleType("llamafactory.extras.constants")
    constants.DATA_CONFIG = "dataset_info.json"
    misc = types.ModuleType("llamafactory.extras.misc")
    misc.use_modelscope = misc.use_openmind = lambda: False
    data_utils = types.ModuleType("llamafactory.data.data_utils")
    data_utils.Role = SimpleNamespace(
        **{name.upper(): SimpleNamespace(value=name) for name in ("user", "assistant", "system", "observation")},
        FUNCTION=SimpleNamespace(value="function"),
    )
    logger = SimpleNamespace(warning_rank0=print, warning_rank0_once=print, info_rank0=print)
    logging = types.ModuleType("llamafactory.extras.logging")
    logging.get_logger = lambda name: logger
    for module in (constants, misc, data_utils, logging):
        sys.modules[module.__name__] = module
    sys.modules["llamafactory.extras"].logging = logging
    parser = importlib.import_module("llamafactory.data.parser")
    converter = importlib.import_module("llamafactory.data.converter")
    for name, pool in (("pairs", PAIRS), ("chats", CHATS), ("tools", TOOL_CHATS), ("texts", TEXTS)):
        selection = select(pool)
        selection.export(folder, "llama_factory", name=name)
        (attributes,) = parser.get_dataset_list([name], str(folder))
        rows = rows_of(folder / attributes.dataset_name, "json", folder)
        convert = converter.get_dataset_converter(attributes.formatting, attributes, None)
        for row, index in zip(rows, selection.indices, strict=True):
            read = convert(row)
            if name == "texts":
                assert read["_prompt"][0]["content"] == pool[index]["text"]
                assert read["_response"] == []
                continue
            expected = messages_of(pool[index])
            system = expected[0]["content"] if expected[0]["role"] == "system" else ""
            assert read["_system"] == system
            assert read["_response"][0]["content"] == expected[-1]["content"]
            assert read["_prompt"][0]["content"] == expected[bool(system)]["content"]
            assert json.loads(read["_tools"] or "null") == pool[index].get("tools")


def check_torchtune(folder):
    bare_package("torchtune", "torchtune.data", "torchtune.modules")
    utils, transforms = types.ModuleType("torchtune.data._utils"), types.ModuleType("torchtune.modules.transforms")
    utils.format_content_with_images = utils.load_image = None
    transforms.Transform = object
    sys.modules |= {utils.__name__: utils, transforms.__name__: transforms}
    messages = importlib.import_module("torchtune.data._messages")
    for name, pool in (("pairs", PAIRS), ("chats", CHATS)):
        selection = select(pool)
        selection.export(folder, "torchtune", name=name)
        section = yaml.safe_load((folder / f"{name}.torchtune.yaml").read_text())["dataset"]
        assert section["_component_"] == "torchtune.datasets.chat_dataset"
        read = messages.OpenAIToMessages(
            train_on_input=section["train_on_input"], column_map={"messages": section["conversation_column"]}
        )
        rows = rows_of(section["data_files"], section["source"], folder)
        for row, index in zip(rows, selection.indices, strict=True):
            found = read(row)["messages"]
            assert [(one.role, one.text_content) for one in found] == [
                (one["role"], one["content"]) for one in messages_of(pool[index])
            ]
            assert [one.masked for one in found] == [one.role != "assistant" for one in found]


def check_axolotl(folder):
    bare_package("axolotl", "axolotl.utils", "axolotl.utils.schemas", "axolotl.prompt_strategies")
    logging = types.ModuleType("axolotl.utils.logging")
    logging.get_logger = lambda name: importlib.import_module("logging").getLogger(name)
    distributed = types.ModuleType("axolotl.utils.distributed")
    sys.modules |= {logging.__name__: logging, distributed.__name__: distributed}
    schemas = importlib.import_module("axolotl.utils.schemas.datasets")
    module = importlib.import_module("axolotl.prompt_strategies.chat_template")
    tokenizer = tiny_tokenizer()
    for name, pool in (("pairs", PAIRS), ("chats", CHATS), ("tools", TOOL_CHATS), ("history", HISTORY)):
        selection = select(pool)
        selection.export(folder, "axolotl", name=name)
        section = yaml.safe_load((folder / f"{name}.axolotl.yaml").read_text())["datasets"][0]
        config = schemas.SFTDataset(**section)
        prompter = module.ChatTemplatePrompter(
            tokenizer,
            tokenizer.chat_template,
            field_messages=config.field_messages,
            message_field_training=config.message_field_training,
            field_tools=config.field_tools or "tools",
        )
        strategy = module.ChatTemplateStrategy(
            prompter, tokenizer, train_on_inputs=False, sequence_len=2048, roles_to_train=["assistant"]
        )
        rows = rows_of(config.path, config.ds_type, folder)
        for row, index in zip(rows, selection.indices, strict=True):
            turns = strategy.get_conversation_thread(row)
            expected = messages_of(pool[index])
            assert [(turn["role"], turn["content"]) for turn in turns] == [
                (one["role"], one["content"]) for one in expected
            ]
            assert (strategy._get_tools(row) or None) == pool[index].get("tools")
            if name == "history":
                assert [turn["training"] for turn in turns] == [False] * (len(turns) - 1) + [True]


def check_verl(folder):
    bare_package("verl", "verl.utils", "verl.utils.dataset", "verl.utils.tokenizer")
    if importlib.machinery.PathFinder.find_spec("omegaconf") is None:
        omegaconf = types.ModuleType("omegaconf")
        omegaconf.DictConfig, omegaconf.ListConfig = dict, list
        sys.modules["omegaconf"] = omegaconf
    imports, tokenizer = types.ModuleType("verl.utils.import_utils"), sys.modules["verl.utils.tokenizer"]
    imports.load_extern_object = None
    tokenizer.build_multimodal_processor_inputs = tokenizer.normalize_token_ids = None
    sys.modules[imports.__name__] = imports
    module = importlib.import_module("verl.utils.dataset.rl_dataset")
    for name, pool in (("pairs", PAIRS), ("chats", CHATS)):
        selection = select(pool)
        (path,) = selection.export(folder, "verl", name=name, weights="gains").files
        dataset = module.RLHFDataset.__new__(module.RLHFDataset)
        vars(dataset).update(data_files=[str(path)], max_samples=-1, filter_overlong_prompts=False, processor=None)
        vars(dataset).update(prompt_key="prompt", image_key="images", video_key="videos", audio_key="audios")
        dataset.need_tools_kwargs = False
        dataset._read_files_and_tokenize()
        for number, index in enumerate(selection.indices):
            row = dataset[number]
            assert row["raw_prompt"] == messages_of(pool[index])[:-1]
            assert row["reward_model"]["ground_truth"] == messages_of(pool[index])[-1]["content"]
            assert (row["index"], row["data_source"]) == (index, name)


def main():
    for check in (check_llama_factory, check_torchtune, check_axolotl, check_verl):
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder))
        print(f"{check.__name__.removeprefix('check_')}: its reader gives the picked rows in their order", flush=True)


if __name__ == "__main__":
    main()
