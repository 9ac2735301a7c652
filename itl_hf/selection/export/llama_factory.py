"""The format of LLaMA-Factory: a JSON file and its entry in `dataset_info.json` (its `data/README.md`).

Its `sharegpt` format demands that messages of `user` or `observation` and of `assistant` or `function_call` take turns;
it skips other rows with a warning in the log, so that they are refused here. The `openai` format is not used: it adds
a system prompt to rows that have none (`OpenAIDatasetConverter` of version 0.9.5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itl_hf.selection.export.conversations import PickedRow, calls_of, need_answer, thoughts_of
from itl_hf.selection.export.files import ExportFiles, TrainerFormat, has_text_rows, json_bytes

INFO_FILE = "dataset_info.json"
_TAGS = {
    **{"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    **{"observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"},
}
#: What LLaMA-Factory itself puts between the results of several tools.
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_ASKING, _ANSWERING = ("user", "observation"), ("assistant", "function_call")


def convert(row: PickedRow) -> dict[str, Any]:
    """Returns the row of LLaMA-Factory; raises `ValueError` if it would be skipped or lose a part."""
    if row.kind == "text":
        return {"text": row.text}
    need_answer(row)
    messages = _merge_results([_message(message) for message in row.messages])
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    for number, turn in enumerate(turns):
        if turn["role"] not in (_ASKING, _ANSWERING)[number % 2]:
            raise ValueError("messages of the user (or a tool) and of the assistant do not take turns")
    if len(turns) % 2:
        raise ValueError("the last message is not the assistant's")
    return {"messages": messages, "tools": json_bytes(row.tools).decode() if row.tools else ""}


def write(rows: list[dict[str, Any]], picks: list[PickedRow], folder: Path, name: str) -> ExportFiles:
    """Returns the data file and its entry."""
    file = f"{name}.json"
    usage = f"llamafactory-cli train ... --dataset_dir {folder} --dataset {name}"
    if has_text_rows(picks):
        entry: dict[str, Any] = {"file_name": file, "columns": {"prompt": "text"}}
        return ExportFiles({file: json_bytes(rows, 1)}, f"{usage} --stage pt", entry)
    columns = {"messages": "messages", "tools": "tools"}
    entry = {"file_name": file, "formatting": "sharegpt", "columns": columns, "tags": _TAGS}
    is_masked = any(row.kind == "pair" and any(one["role"] == "assistant" for one in row.prompt) for row in picks)
    usage += " --stage sft" + " --mask_history true" * is_masked
    return ExportFiles({file: json_bytes(rows, 1)}, f"{usage} --disable_shuffling true", entry)


def _message(message: dict[str, Any]) -> dict[str, str]:
    role, content, thoughts = message["role"], str(message["content"]), thoughts_of(message)
    calls = calls_of(message)
    if role in ("tool", "function"):
        return {"role": "observation", "content": content}
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"LLaMA-Factory has no role {role!r}")
    start = f"<think>\n{thoughts}\n</think>\n\n" if thoughts else ""
    if not calls:
        return {"role": role, "content": start + content}
    if content.strip():
        raise ValueError("a message has text beside its calls of tools, which LLaMA-Factory has no place for")
    return {"role": "function_call", "content": start + json_bytes(calls).decode()}


def _merge_results(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for message in messages:
        if turns and message["role"] == turns[-1]["role"] == "observation":
            turns[-1] = {**message, "content": turns[-1]["content"] + _BETWEEN_RESULTS + message["content"]}
        else:
            turns.append(message)
    return turns


FORMAT = TrainerFormat(convert, write)
