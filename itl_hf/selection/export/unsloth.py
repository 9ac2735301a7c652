"""The format of Unsloth: JSON Lines and a script that trains on them with Unsloth and TRL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itl_hf.selection.export.axolotl import as_table
from itl_hf.selection.export.conversations import PickedRow, need_answer
from itl_hf.selection.export.files import ExportFiles, TrainerFormat, has_text_rows, json_lines

_SCRIPT = '''"""Trains on picked rows with Unsloth; made by itl-hf export."""

from unsloth import FastLanguageModel  # before TRL, which it changes

import json
import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

model_name = sys.argv[1] if len(sys.argv) > 1 else "unsloth/Qwen2.5-0.5B-Instruct"
model, tokenizer = FastLanguageModel.from_pretrained(model_name, max_seq_length=2048, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=16)


def parsed(value):
    """Returns the value of a text of JSON."""
    return json.loads(value) if isinstance(value, str) else value


def to_text(row):
    """Returns the row as a text under the model's chat template."""
    return {{"text": {text}}}


rows = load_dataset("json", data_files={file!r}, split="train")
rows = rows.map(to_text, remove_columns=rows.column_names)
arguments = SFTConfig(
    output_dir="outputs", dataset_text_field="text", per_device_train_batch_size=2, max_length=2048
)
trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=arguments)
trainer.train()
'''
_CHAT = 'tokenizer.apply_chat_template(parsed(row["messages"]), tools=parsed(row.get("tools")), tokenize=False)'
_TEXT = 'row["text"] + tokenizer.eos_token'


def convert(row: PickedRow) -> dict[str, Any]:
    """Returns messages and tools; raises `ValueError` if nothing is to be learned from the row."""
    if row.kind == "text":
        return {"text": row.text}
    need_answer(row)
    return {"messages": row.messages, "tools": row.tools}


def write(rows: list[dict[str, Any]], picks: list[PickedRow], folder: Path, name: str) -> ExportFiles:
    """Returns the data file and the script."""
    file, script = f"{name}.jsonl", f"{name}_unsloth.py"
    is_text = has_text_rows(picks)
    text = _SCRIPT.format(text=_TEXT if is_text else _CHAT, file=str(folder / file))
    contents = {file: json_lines(rows if is_text else as_table(rows)), script: text.encode()}
    return ExportFiles(contents, f"python {folder / script} MODEL (it learns prompts as well as answers)")


FORMAT = TrainerFormat(convert, write)
