"""The formats of verl: prompts for reinforcement learning (`RLHFDataset`), conversations for its SFT trainer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itl_hf.selection.export.conversations import PickedRow, need_answer, plain_message
from itl_hf.selection.export.files import ExportFiles, TrainerFormat

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PROMPTS = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", _MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("index", pa.int64()), ("weight", pa.float64())])),
    ]
)


def convert_prompt(row: PickedRow) -> dict[str, Any]:
    """Returns the prompt with the answer as ground truth; raises `ValueError` if the row would lose a part."""
    _check_tools(row)
    answer = [plain_message(message, "verl") for message in row.answer]
    return {
        "prompt": [plain_message(message, "verl") for message in row.prompt],
        "reward_model": {"style": "rule", "ground_truth": answer[-1]["content"] if answer else None},
        "extra_info": {"index": row.pool_index, "weight": row.weight},
    }


def write_prompts(rows: list[dict[str, Any]], picks: list[PickedRow], folder: Path, name: str) -> ExportFiles:
    """Returns the Parquet file of prompts."""
    file = f"{name}.parquet"
    rows = [{"data_source": name, "ability": name, **row} for row in rows]
    usage = (
        f"python -m verl.trainer.main_ppo data.train_files={folder / file} data.prompt_key=prompt data.shuffle=False "
        f"... (your reward function gets data_source={name!r} and ground_truth, the row's answer)"
    )
    return ExportFiles({file: _parquet(rows, _PROMPTS)}, usage)


def convert_conversation(row: PickedRow) -> dict[str, Any]:
    """Returns the conversation; raises `ValueError` if it would lose a part or learn another one."""
    need_answer(row)
    _check_tools(row)
    if row.kind == "pair" and any(message["role"] == "assistant" for message in row.prompt):
        raise ValueError("its prompt holds answers of the assistant, which verl would learn too")
    return {"messages": [plain_message(message, "verl") for message in row.messages]}


def write_conversations(rows: list[dict[str, Any]], picks: list[PickedRow], folder: Path, name: str) -> ExportFiles:
    """Returns the Parquet file of conversations."""
    file = f"{name}.parquet"
    usage = f"torchrun -m verl.trainer.sft_trainer data.train_files={folder / file} data.messages_key=messages ..."
    return ExportFiles({file: _parquet(rows, pa.schema([("messages", _MESSAGES)]))}, usage)


def _check_tools(row: PickedRow) -> None:
    if row.tools:
        raise ValueError("it has tools, which verl takes from its own configuration: use another format")


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()


PROMPTS = TrainerFormat(convert_prompt, write_prompts, kinds=("pair", "messages"), takes_weights=True)
CONVERSATIONS = TrainerFormat(convert_conversation, write_conversations, kinds=("pair", "messages"))
