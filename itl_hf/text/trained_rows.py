"""The rows that trainers of TRL read: what selection read, in TRL's columns and with its roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import concatenate_datasets

from itl_hf.text.bad_rows import BadRows
from itl_hf.text.content import read
from itl_hf.text.parse import is_message_list, parsed_json, with_parsed_calls
from itl_hf.text.roles import known_role
from itl_hf.text.rows import TEXT_COLUMNS, as_dataset, row_format
from itl_hf.text.template_options import check_template_options
from itl_hf.text.text_rows import TextRows

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.text.column_mapping import ColumnMapping

_COLUMNS = {
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages",),
    "text": ("text",),
}


def training_rows(dataset: Dataset, columns: ColumnMapping | None = None, name: str = "pool") -> Dataset:
    """Returns the rows as trainers of TRL read them: what selection reads, and no other column.

    Args:
        dataset (`Dataset`):
            Rows of any format that is recognised.
        columns (`ColumnMapping`, *optional*):
            Which column holds which part of a row.
        name (`str`, *optional*, defaults to `"pool"`):
            Name of the rows in messages.

    Raises:
        `ValueError`: If no format fits, the rows have prompts only, so that there is nothing to train on, or a row
            brings a chat template.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_dict({"question": ["2 + 2?"], "answer": ["4"]})
        >>> training_rows(rows)[0]
        {'prompt': '2 + 2?', 'completion': '4'}
    """
    rows = TextRows(dataset, columns, name)
    read_rows = rows.to_dataset()
    kind = row_format(read_rows.column_names)
    if kind == "prompt":
        raise ValueError(_nothing_to_learn(name, dataset))
    extra = [column for column in ("tools", "chat_template_kwargs") if column in read_rows.column_names]
    read_rows = read_rows.select_columns([*_COLUMNS[kind], *extra])
    check_template_options(read_rows, name)
    if kind == "text":
        return read_rows
    own = list(rows) if rows.format.convert is None else list(read_rows)
    learned_rows = [{column: as_trained(column, row.get(column)) for column in read_rows.column_names} for row in own]
    return as_dataset(learned_rows, name)


def check_trainable(dataset: Dataset, columns: ColumnMapping | None = None, name: str = "pool") -> None:
    """Raises `ValueError` if rows have no completion, before anything is embedded.

    Args:
        dataset (`Dataset`):
            Rows of any format that is recognised.
        columns (`ColumnMapping`, *optional*):
            Which column holds which part of a row.
        name (`str`, *optional*, defaults to `"pool"`):
            Name of the rows in messages.
    """
    rows = TextRows(dataset, columns, name)
    bad_rows = BadRows()
    for number, row in enumerate(rows):
        try:
            parts = read(row, number, with_completion=True)
        except ValueError:  # selection says so, or leaves the row out
            continue
        if parts.column == "prompt" and parts.completion is None:
            bad_rows.add(number, ValueError(f"row {number} has a prompt and no completion: nothing is to be learned."))
    if len(bad_rows) == len(rows):
        raise ValueError(_nothing_to_learn(name, dataset))
    if len(bad_rows):
        raise ValueError(f"{name}: {bad_rows.message(len(rows))} Leave such rows out.")


def with_read_columns(dataset: Dataset, columns: ColumnMapping | None) -> Dataset:
    """Returns rows with the columns that were read beside their own, if users named columns.

    The rows can then be read and trained on without the names.
    """
    if columns is None:
        return dataset
    # TRL would convert `conversations` again, and replace the messages that were read.
    return beside_other_columns(TextRows(dataset, columns).to_dataset(), dataset, ("conversations",))


def beside_other_columns(read_rows: Dataset, dataset: Dataset, source_columns: Sequence[str]) -> Dataset:
    """Returns rows in the columns that were read, with the columns of the dataset that are not text.

    Args:
        read_rows (`Dataset`):
            The rows in the columns that were read.
        dataset (`Dataset`):
            The same rows with all their columns.
        source_columns (`Sequence[str]`):
            Columns that the text was read from, which are left out.
    """
    left_out = {*TEXT_COLUMNS, *source_columns}
    others = dataset.select_columns([name for name in dataset.column_names if name not in left_out])
    return read_rows if not others.column_names else concatenate_datasets([others, read_rows], axis=1)


def as_trained(column: str, value: Any) -> Any:
    """Returns messages with `role`, `content`, the usual roles and calls of tools as values; other values as they are.

    Args:
        column (`str`):
            The value's column.
        value (`Any`):
            A value of a row.

    Example:
        >>> as_trained("messages", [{"from": "human", "value": "Hi"}])
        [{'content': 'Hi', 'role': 'user'}]
    """
    if column in ("tools", "chat_template_kwargs", "messages"):
        value = parsed_json(value)
    if not is_message_list(value) or column in ("tools", "chat_template_kwargs"):
        return value
    return [_message(message) for message in value]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    new_names = {"from": "role", "value": "content"} if "role" not in message else {}
    fields = {new_names.get(key, key): value for key, value in message.items() if value is not None}
    return {"content": "", **with_parsed_calls(fields), "role": known_role(fields.get("role", ""))}


def _nothing_to_learn(name: str, dataset: Dataset) -> str:
    return (
        f"the {name} has prompts and no completions (columns {', '.join(dataset.column_names)}): there is nothing to "
        "train on. Name the column of the answer, --columns prompt=... completion=..., or train on a whole text, "
        "--columns text=..."
    )
