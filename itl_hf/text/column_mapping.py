"""`columns=` and `prompt_template=`: which columns of a data set hold prompt and answer, where users say so."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from itl_hf.text.formats import Format, pair
from itl_hf.text.parse import marked_turns, messages_of_turns, parsed_json, parsed_messages

Row = Mapping[str, Any]

#: What a column can hold.
PARTS = ("messages", "prompt", "completion", "system", "text", "tools")
_STARTS = ("messages", "prompt", "text")


@dataclass(frozen=True)
class ColumnMapping:
    r"""Which column holds which part of a row.

    Args:
        columns (`dict[str, str]`):
            From the part (`messages`, `prompt`, `completion`, `system`, `text` or `tools`) to the column that holds it.
        prompt_template (`str`, *optional*):
            The prompt made of several columns, such as `"{instruction}\n{input}"`.

    Raises:
        `ValueError`: If a part is unknown, there is none of `messages`, `prompt` and `text`, or several.

    Example:
        >>> mapping = ColumnMapping({"completion": "answer"}, "{context}: {question}")
        >>> mapping.format(["context", "question", "answer"]).convert({"context": "A", "question": "b", "answer": "c"})
        {'prompt': 'A: b', 'completion': 'c'}
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    prompt_template: str | None = None

    def __post_init__(self) -> None:
        for part, column in self.columns.items():
            if part not in PARTS:
                raise ValueError(f"columns: {part!r} is no part of a row; known: {', '.join(PARTS)} (part=column)")
            if not isinstance(column, str) or not column:
                raise ValueError(f"columns: {part}={column!r} must be the name of a column")
        starts = [part for part in _STARTS if part in self.columns]
        if self.prompt_template is not None:
            starts.append("prompt_template")
            if not self._template_columns():
                raise ValueError(f"prompt_template: {self.prompt_template!r} names no column, as in '{{question}}'")
        if len(starts) != 1:
            got = " and ".join(starts) or "none"
            raise ValueError(f"columns: one of messages, prompt, text and prompt_template holds the prompt; got {got}")
        if "completion" in self.columns and not {"prompt", "prompt_template"} & set(starts):
            raise ValueError("columns: completion goes with prompt or prompt_template")

    @classmethod
    def of(
        cls, columns: Mapping[str, str] | Sequence[str] | str | None, prompt_template: str | None = None
    ) -> ColumnMapping | None:
        """Returns the mapping of what users wrote: a dict, or words `part=column`; `None` if they wrote nothing.

        Raises:
            `ValueError`: If a word is not of the form `part=column`.
            `TypeError`: If it is neither.
        """
        if not columns and prompt_template is None:
            return None
        if isinstance(columns, Mapping):
            return cls(dict(columns), prompt_template)
        if columns is not None and not isinstance(columns, str | Sequence):
            raise TypeError(f"columns must be a mapping such as {{'prompt': 'question'}}, got {type(columns).__name__}")
        words = columns.replace(",", " ").split() if isinstance(columns, str) else list(columns or ())
        for word in words:
            if "=" not in word:
                raise ValueError(f"columns: {word!r} must be part=column, such as prompt=question")
        pairs = [word.partition("=")[::2] for word in words]
        return cls(dict(pairs), prompt_template)

    def format(self, column_names: Iterable[str], is_targets: bool = False) -> Format:
        """Returns how rows with these columns are read.

        Args:
            column_names (`Iterable[str]`):
                The columns of the data set.
            is_targets (`bool`, *optional*, defaults to `False`):
                Whether columns of other parts than the prompt may be absent.

        Raises:
            `ValueError`: If a column is not there.
        """
        names = list(column_names)
        columns = dict(self.columns)
        if is_targets:
            columns = {part: column for part, column in columns.items() if part in _STARTS or column in names}
        names_read = tuple(dict.fromkeys([*columns.values(), *self._template_columns()]))
        missing = [name for name in names_read if name not in names]
        if missing:
            raise ValueError(f"columns: there is no column {missing[0]!r}; the columns are {names}")
        return Format("columns that were named", names_read, lambda row: self._convert(row, columns))

    def fits(self, column_names: Iterable[str]) -> bool:
        """Returns whether the prompt's columns are all there."""
        names_read = {self.columns[part] for part in _STARTS if part in self.columns} | set(self._template_columns())
        return names_read <= set(column_names)

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        template = {} if self.prompt_template is None else {"prompt_template": self.prompt_template}
        return {"columns": dict(self.columns), **template}

    def _convert(self, row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
        parts = {part: row.get(column) for part, column in columns.items()}
        tools = {"tools": parts["tools"]} if "tools" in parts else {}
        if "text" in parts:
            return {"text": parts["text"]}
        if "messages" in parts:
            messages = messages_of_turns(parsed_json(parts["messages"]))
            system = parts.get("system")
            start = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
            messages = marked_turns(messages) if isinstance(messages, str) else messages
            return {"messages": [*start, *messages] if messages else None, **tools}
        prompt = parts.get("prompt") if self.prompt_template is None else self._fill_template(row)
        system = (parts["system"] or "") if "system" in parts else ("" if tools else None)
        return {**pair(parsed_messages(prompt), parsed_messages(parts.get("completion")), system), **tools}

    def _template_columns(self) -> list[str]:
        if self.prompt_template is None:
            return []
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.prompt_template) if name is not None]
        except ValueError as error:
            raise ValueError(f"prompt_template: {self.prompt_template!r}: {error}") from error
        return list(dict.fromkeys(fields))

    def _fill_template(self, row: Row) -> str:
        """The template with the row's values, which are put in as they are: braces within them mean nothing."""
        pieces = []
        for literal, name, _, _ in string.Formatter().parse(self.prompt_template or ""):
            pieces.append(literal)
            if name is not None and row.get(name) is not None:
                pieces.append(str(row[name]))
        return "".join(pieces).strip()
