"""Rows of text -> token ids, with the place where the prompt ends.

The one room that knows column names, chat templates and truncation, so that selection and training read a row the same
way. Formats and template calls follow TRL's `SFTTrainer` (`prompt` + `completion`, `messages`, `text`), with one
addition: with `span="prompt"` the completion is not looked at at all. A prompt then gives the same tokens whether or
not its row has a completion, which is what makes unlabelled targets comparable with a labelled pool. Not covered:
images, preference pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import datasets

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset
    from transformers import PreTrainedTokenizerBase

Span = Literal["prompt", "completion", "whole"]
RowFormat = Literal["messages", "prompt-completion", "prompt", "text"]
Row = Mapping[str, Any]

SPANS: tuple[str, ...] = get_args(Span)
#: Every column that this module reads; anything else in a row is left alone.
TEXT_COLUMNS = ("messages", "prompt", "completion", "text", "tools", "chat_template_kwargs")
_SINGLE: tuple[RowFormat, ...] = ("messages", "prompt", "text")
_ACCEPTED = "`messages`, `prompt` with or without `completion`, or `text`"


def as_dataset(
    data: Dataset | DatasetDict | IterableDataset | Sequence[Row] | Sequence[str],
    name: str = "pool",
    split: str | None = None,
) -> Dataset:
    """Whatever holds the rows, as a `datasets.Dataset`.

    Args:
        data (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`):
            The rows. Strings become a column `text`; dictionaries may differ in their keys (what is missing is `None`).
        name (`str`, *optional*, defaults to `"pool"`):
            What to call the rows in error messages.
        split (`str`, *optional*):
            Which split of a `DatasetDict` to take; needed there and nowhere else.

    Returns:
        `Dataset`: at least one row.

    Raises:
        TypeError: `data` is of another kind, or streams (`IterableDataset`).
        ValueError: no rows, an unknown split, or rows that do not fit into one table.

    Example:
        >>> as_dataset(["What is 2 + 2?"])[0]
        {'text': 'What is 2 + 2?'}
    """
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ValueError(f"{name} is a DatasetDict: pass split=, one of {list(data)} (got {split!r}).")
        data = data[split]
    elif split is not None:
        raise ValueError(f"split={split!r} was given, but {name} is a {type(data).__name__} and has no splits.")
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise TypeError(
            f"{name} is a streaming dataset, which has no row numbers to select by. Load it with streaming=False, or "
            "collect a part: Dataset.from_list(list(stream.take(10_000)))."
        )
    dataset = data if isinstance(data, datasets.Dataset) else _from_rows(data, name)
    if len(dataset) == 0:
        raise ValueError(f"{name} has no rows.")
    return dataset


def _from_rows(data: Any, name: str) -> Dataset:
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Sequence):
        raise TypeError(
            f"{name} must be a datasets.Dataset, a DatasetDict, a list of dicts or a list of strings, got "
            f"{type(data).__name__}. Load files or Hub names with datasets.load_dataset first."
        )
    rows = [{"text": row} if isinstance(row, str) else row for row in data]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"{name}: row {number} is a {type(row).__name__}; every row must be a dict or a string.")
    # `Dataset.from_list` would take its columns from the first row alone and drop the others silently.
    columns = list(dict.fromkeys(key for row in rows for key in row))
    try:
        return datasets.Dataset.from_dict({column: [row.get(column) for row in rows] for column in columns})
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors derive from these
        if (odd := _odd_one_out(rows, columns)) is not None:
            raise ValueError(
                f"{name}: row {odd} does not fit into one table with the rows before it: {error}"
            ) from error
        raise ValueError(f"{name}: the rows do not fit into one table: {error}") from error


def _odd_one_out(rows: Sequence[Row], columns: Sequence[str]) -> int | None:
    for column in columns:
        kinds = [(number, type(row[column])) for number, row in enumerate(rows) if row.get(column) is not None]
        for number, kind in kinds:
            if kind is not kinds[0][1]:
                return number
    return None


def row_format(column_names: Sequence[str]) -> RowFormat:
    """How rows with these columns are read: `prompt` + `completion` first, then `messages`, `prompt`, `text`.

    Args:
        column_names (`Sequence[str]`):
            The columns of a dataset, or the keys of a row.

    Raises:
        ValueError: none of the accepted columns is there; the message lists those found.

    Example:
        >>> row_format(["id", "prompt", "completion"])
        'prompt-completion'
    """
    if "prompt" in column_names and "completion" in column_names:
        return "prompt-completion"
    for candidate in _SINGLE:
        if candidate in column_names:
            return candidate
    raise ValueError(
        f"no column with text: found {sorted(column_names)}, expected {_ACCEPTED}. "
        "Rename the column that holds the text: dataset.rename_column('instruction', 'prompt')."
    )


@dataclass(frozen=True)
class Tokens:
    """One row as token ids.

    Args:
        input_ids (`list[int]`):
            Prompt and completion, without padding.
        prompt_length (`int`):
            How many of `input_ids`, from the start, belong to the prompt.
        truncated (`bool`):
            Whether ids beyond `max_length` were cut from the end.
    """

    input_ids: list[int]
    prompt_length: int
    truncated: bool = False

    def span(self, span: Span) -> tuple[int, int]:
        """Half-open range (start, end) of positions; empty (start == end) where a row has no such part."""
        ends = {"prompt": (0, self.prompt_length), "whole": (0, len(self.input_ids))}
        return ends.get(span, (self.prompt_length, len(self.input_ids)))


@dataclass(frozen=True)
class _Parts:
    """A row after validation. Conversations are lists of messages, everything else strings."""

    prompt: str | list[dict[str, Any]]
    completion: str | list[dict[str, Any]] | None
    template_kwargs: dict[str, Any]


class RowTokenizer:
    """Rows -> `Tokens`.

    Strings are used as they are; conversations go through the tokenizer's chat template, the prompt with the generation
    prompt added. Of `messages`, the last turn is the completion if the assistant speaks it. The prompt ends where the
    tokens of prompt and of prompt + completion part, as in TRL.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Any tokenizer of transformers. Its padding side and padding token do not matter.
        max_length (`int`, *optional*):
            Ids beyond are cut from the end. `None` never cuts.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"whole"`):
            `"prompt"` ignores completions: the ids are those of the prompt alone.

    Example:
        >>> tokens = RowTokenizer(tokenizer, max_length=512)([{"prompt": "2 + 2 =", "completion": " 4"}])[0]
        >>> tokens.input_ids[: tokens.prompt_length]  # ids of "2 + 2 ="
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None, span: Span = "whole"
    ) -> None:
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}.")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.span = checked_span(span)

    def __call__(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Tokenize `rows`, in order.

        Args:
            rows (`Sequence[Row]`):
                Rows of one of the formats of `row_format`; formats may be mixed.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.

        Raises:
            ValueError: a row without text or with content that is not text; names row, column and remedy.
        """
        parts = [self._parts(row, number) for number, row in enumerate(rows, first_row)]
        prompts = self._encode([self._render(part, number) for number, part in enumerate(parts, first_row)])
        wholes = self._encode([self._render(part, n, True) for n, part in enumerate(parts, first_row)])
        return [
            self._tokens(*row) for row in zip(prompts, wholes, range(first_row, first_row + len(rows)), strict=True)
        ]

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise what `__call__` would for rows it cannot read, without tokenizing: cheap enough for a whole pool."""
        for number, row in enumerate(rows, first_row):
            self._parts(row, number)

    def _parts(self, row: Row, number: int) -> _Parts:
        parts = _read(row, number, with_completion=self.span != "prompt")
        if not isinstance(parts.prompt, str) and not self.tokenizer.chat_template:
            raise ValueError(
                f"row {number}: column {_prompt_column(row)!r} holds a conversation, but the tokenizer has no chat "
                "template. Use the tokenizer of an instruction-tuned model, set tokenizer.chat_template, or give "
                "prompts as strings."
            )
        if self.span == "completion" and parts.completion is None:
            raise ValueError(
                f"row {number} has no completion (format {_format_of(row)!r}), but span='completion'. Drop such rows, "
                "or use span='prompt' or span='whole'."
            )
        return parts

    def _render(self, parts: _Parts, number: int, whole: bool = False) -> tuple[str, bool] | None:
        """The text to tokenize, and whether the tokenizer adds its special tokens (a template writes its own)."""
        if whole and parts.completion is None:
            return None
        if isinstance(parts.prompt, str):
            return parts.prompt + (cast(str, parts.completion) if whole else ""), True
        messages = parts.prompt + (cast(list[dict[str, Any]], parts.completion) if whole else [])
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not whole, **parts.template_kwargs
            )
        except Exception as error:  # templates raise what they like: jinja2's errors, TypeError, KeyError
            raise ValueError(
                f"row {number}: the tokenizer's chat template refused the conversation with roles "
                f"{[message.get('role') for message in messages]}: {error}"
            ) from error
        return cast(str, text), False

    def _encode(self, texts: Sequence[tuple[str, bool] | None]) -> list[list[int] | None]:
        encoded: list[list[int] | None] = [None] * len(texts)
        for special in (True, False):
            chosen = [(i, item[0]) for i, item in enumerate(texts) if item is not None and item[1] is special]
            if not chosen:
                continue
            # verbose=False: the tokenizer's own length warning comes before our cut and would mislead.
            batch = self.tokenizer(
                [text for _, text in chosen],
                add_special_tokens=special,
                padding=False,
                truncation=False,
                return_attention_mask=False,
                verbose=False,
            )
            for (i, _), ids in zip(chosen, batch["input_ids"], strict=True):
                encoded[i] = ids
        return encoded

    def _tokens(self, prompt: list[int] | None, whole: list[int] | None, number: int) -> Tokens:
        if not prompt:
            raise ValueError(
                f"row {number}: the tokenizer makes no tokens of its prompt. Drop the row or give it text."
            )
        ids = prompt if whole is None else whole
        length = len(prompt) if whole is None else _common_prefix(prompt, whole)
        kept = ids if self.max_length is None else ids[: self.max_length]
        tokens = Tokens(kept, min(length, len(kept)), truncated=len(kept) < len(ids))
        if self.span == "completion" and tokens.prompt_length == len(kept):
            raise ValueError(
                f"row {number}: nothing of its completion is left: the prompt alone has {len(prompt)} tokens and "
                f"max_length={self.max_length}. Raise max_length or drop the row."
            )
        return tokens


def checked_span(span: str) -> Span:
    """`span` itself, or a `ValueError` that lists the accepted ones."""
    if span not in SPANS:
        raise ValueError(f"span must be one of {SPANS}, got {span!r}.")
    return cast(Span, span)


def plain_text(row: Row) -> tuple[str, str]:
    """A row as (prompt, completion) for people to read: reports, command lines. Never through a chat template.

    A conversation of one message is its content; a longer one has a line `role: content` for each message. A row
    without a completion gives `""` for it.

    Raises:
        ValueError: the row has no text.

    Example:
        >>> plain_text({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})
        ('Hi', 'Hello')
    """
    parts = _read(row, None, with_completion=True)
    return _readable(parts.prompt), _readable(parts.completion or "")


def training_features(tokens: Tokens, completion_only: bool = True) -> dict[str, list[int]]:
    """What a causal language model trains on: `input_ids`, `attention_mask`, `labels`, each of the row's length.

    Args:
        tokens (`Tokens`):
            A row tokenized with `span="whole"`.
        completion_only (`bool`, *optional*, defaults to `True`):
            Whether prompt positions get the label -100, which the loss ignores.

    Example:
        >>> training_features(Tokens([5, 6, 7], prompt_length=2))["labels"]
        [-100, -100, 7]
    """
    masked = tokens.prompt_length if completion_only else 0
    return {
        "input_ids": list(tokens.input_ids),
        "attention_mask": [1] * len(tokens.input_ids),
        "labels": [-100] * masked + list(tokens.input_ids[masked:]),
    }


def _format_of(row: Row) -> RowFormat:
    """The row's own format: a table of mixed rows has `None` in the columns that a row does not use."""
    filled = [column for column, value in row.items() if value is not None]
    readable = any(column in filled for column in ("messages", "prompt", "text"))
    return row_format(filled if readable else list(row))


def _prompt_column(row: Row) -> str:
    return _format_of(row).removesuffix("-completion")


def _read(row: Row, number: int | None, with_completion: bool) -> _Parts:
    where = "" if number is None else f"row {number}: "
    kind, column = _format_of(row), _prompt_column(row)
    prompt = _content(row, column, where)
    if prompt is None:
        raise ValueError(f"{where}column {column!r} is empty. Drop the row or give it text.")
    if kind == "messages":
        return _split_conversation(prompt, row, where, with_completion)
    if kind == "text" and not isinstance(prompt, str):
        raise ValueError(f"{where}column 'text' holds a conversation; rename the column to 'messages'.")
    completion = _content(row, "completion", where) if with_completion and kind == "prompt-completion" else None
    if completion is not None and isinstance(completion, str) is not isinstance(prompt, str):
        raise ValueError(
            f"{where}columns 'prompt' and 'completion' must both be strings or both be lists of messages, got "
            f"{type(prompt).__name__} and {type(completion).__name__}."
        )
    return _Parts(prompt, completion, _template_kwargs(row))


def _split_conversation(messages: Any, row: Row, where: str, with_completion: bool) -> _Parts:
    if isinstance(messages, str):
        raise ValueError(f"{where}column 'messages' holds a string; rename the column to 'text' or 'prompt'.")
    answered = messages[-1]["role"] == "assistant"
    prompt = messages[:-1] if answered else messages
    if not _has_text(prompt):
        raise ValueError(f"{where}column 'messages' has no text before the assistant's last turn: there is no prompt.")
    completion = messages[-1:] if answered and with_completion and _has_text(messages[-1:]) else None
    return _Parts(prompt, completion, _template_kwargs(row))


def _template_kwargs(row: Row) -> dict[str, Any]:
    kwargs = dict(row.get("chat_template_kwargs") or {})
    # `or None` is TRL's: some templates print tool boilerplate for an empty list.
    return {"tools": row.get("tools") or None, **kwargs}


def _content(row: Row, column: str, where: str) -> str | list[dict[str, Any]] | None:
    """A column's text or messages, checked; `None` where it is empty."""
    value = row.get(column)
    if value is None or (isinstance(value, str | list) and not value):
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if not isinstance(value, list):
        raise ValueError(
            f"{where}column {column!r} must be a string or a list of messages, got {type(value).__name__}. "
            "Convert it with dataset.map first."
        )
    messages = [_message(message, f"{where}column {column!r}, message {i}") for i, message in enumerate(value)]
    return messages if _has_text(messages) else None


def _has_text(messages: Sequence[Row]) -> bool:
    return any(message["content"].strip() or message.get("tool_calls") for message in messages)


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or message.get("role") is None:
        raise ValueError(
            f"{where} must be a dict with 'role' and 'content', got {message!r:.80}. "
            "trl.maybe_convert_to_chatml converts the from/value format."
        )
    # One table for all messages fills absent keys with None, which templates would take for present.
    kept = {key: value for key, value in message.items() if value is not None}
    return {**kept, "content": _joined(kept.get("content", ""), where)}


def _joined(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    pieces = content if isinstance(content, Iterable) else [content]
    texts = [piece.get("text") if isinstance(piece, Mapping) else None for piece in pieces]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{where}: content must be a string or a list of {{'type': 'text', 'text': ...}}: only text is read."
        )
    return "".join(cast(list[str], texts))


def _readable(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    if len(content) == 1:
        return str(content[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in content)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    shared = min(len(first), len(second))
    return next((i for i in range(shared) if first[i] != second[i]), shared)
