"""The format of torchtune: JSON Lines and the `dataset` section of its configuration (`chat_dataset`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from itl_hf.selection.export.conversations import PickedRow, need_answer, plain_message
from itl_hf.selection.export.files import ExportFiles, TrainerFormat, has_text_rows, json_lines

_HEAD = "# Lines of a torchtune configuration: put them in place of `dataset` and `shuffle` in yours.\n"
_ROLES = ("system", "user", "assistant")


def convert(row: PickedRow) -> dict[str, Any]:
    """Returns the row of torchtune; raises `ValueError` if it would lose a part or learn another one."""
    if row.kind == "text":
        return {"text": row.text}
    need_answer(row)
    if row.tools:
        raise ValueError("it has tools, which torchtune does not read: use another format")
    if row.kind == "pair" and any(message["role"] == "assistant" for message in row.prompt):
        raise ValueError("its prompt holds answers of the assistant, which torchtune would learn too")
    messages = [plain_message(message, "torchtune") for message in row.messages]
    unknown = [message["role"] for message in messages if message["role"] not in _ROLES]
    if unknown:
        raise ValueError(f"torchtune's chat_dataset has no role {unknown[0]!r}")
    return {"messages": messages}


def write(rows: list[dict[str, Any]], picks: list[PickedRow], folder: Path, name: str) -> ExportFiles:
    """Returns the data file and the section of the configuration."""
    file, config = f"{name}.jsonl", f"{name}.torchtune.yaml"
    source: dict[str, Any] = {"source": "json", "data_files": str(folder / file), "split": "train"}
    if has_text_rows(picks):
        dataset = {"_component_": "torchtune.datasets.text_completion_dataset", **source, "column": "text"}
    else:
        style = {"conversation_column": "messages", "conversation_style": "openai", "train_on_input": False}
        dataset = {"_component_": "torchtune.datasets.chat_dataset", **source, **style}
    text = _HEAD + yaml.safe_dump({"dataset": dataset, "shuffle": False}, sort_keys=False, allow_unicode=True)
    usage = f"put {folder / config} into your configuration, then: tune run RECIPE --config CONFIG.yaml"
    return ExportFiles({file: json_lines(rows), config: text.encode()}, usage)


FORMAT = TrainerFormat(convert, write)
