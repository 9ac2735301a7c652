"""The format of axolotl: JSON Lines and the YAML lines of its `datasets` section (type `chat_template`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from itl_hf.selection.export.conversations import PickedRow, need_answer
from itl_hf.selection.export.files import ExportFiles, TrainerFormat, has_text_rows, json_bytes, json_lines

_HEAD = (
    "# Lines of an axolotl configuration: merge them into yours. `path` is relative to the folder where axolotl runs.\n"
)


def convert(row: PickedRow) -> dict[str, Any]:
    """Returns the row of axolotl; raises `ValueError` if nothing is to be learned from it."""
    if row.kind == "text":
        return {"text": row.text}
    need_answer(row)
    messages = row.messages
    if row.kind == "pair":  # answers within the prompt are not learned
        is_learned = [False] * len(row.prompt) + [True] * len(row.answer)
        messages = [{**one, "training": learns} for one, learns in zip(messages, is_learned, strict=True)]
    return {"messages": messages, "tools": row.tools}


def write(rows: list[dict[str, Any]], picks: list[PickedRow], folder: Path, name: str) -> ExportFiles:
    """Returns the data file and the configuration."""
    file, config = f"{name}.jsonl", f"{name}.axolotl.yaml"
    dataset: dict[str, Any] = {"path": str(folder / file), "ds_type": "json", "split": "train"}
    if has_text_rows(picks):
        dataset |= {"type": "completion", "field": "text"}
    else:
        rows = as_table(rows)
        dataset |= {"type": "chat_template", "field_messages": "messages"}
        dataset |= {"message_field_training": "training"} if any(row.kind == "pair" for row in picks) else {}
        dataset |= {"field_tools": "tools"} if "tools" in rows[0] else {}
    # Both keep the order of the picks.
    settings = {"datasets": [dataset], "shuffle_merged_datasets": False, "curriculum_sampling": True}
    text = _HEAD + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    usage = f"merge {folder / config} into your configuration, then: axolotl train CONFIG.yaml"
    return ExportFiles({file: json_lines(rows), config: text.encode()}, usage)


def as_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows that fit into one table, in which no row gets keys of others.

    Tools, and messages that have more than texts, such as calls of tools, become JSON texts, which axolotl parses.
    """
    has_tools = any(row["tools"] for row in rows)
    keys = {tuple(message) for row in rows for message in row["messages"]}
    values = (value for row in rows for message in row["messages"] for value in message.values())
    is_plain = len(keys) == 1 and all(isinstance(value, str | bool) for value in values)
    return [
        {"messages": row["messages"] if is_plain else json_bytes(row["messages"]).decode()}
        | ({"tools": json_bytes(row["tools"]).decode() if row["tools"] else None} if has_tools else {})
        for row in rows
    ]


FORMAT = TrainerFormat(convert, write)
