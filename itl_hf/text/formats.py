"""The formats of public data sets: which columns hold prompt and answer, and the rows that are read of them.

Every format becomes rows with the columns that trainers of TRL know: `messages`, `prompt` with or without `completion`,
or `text`, and `tools`. A format is recognised by the names of its columns, and by what the first row holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itl_hf.text.multiple_choice import has_choices, question_and_choice
from itl_hf.text.parse import (
    answer_and_tools,
    is_message_list,
    marked_turns,
    messages_of_turns,
    parsed_json,
    parsed_messages,
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """How the rows of a data set are read.

    Args:
        name (`str`):
            The format's usual name.
        columns (`tuple[str, ...]`):
            Columns that are read.
        convert (`Callable`, *optional*):
            Turns a row of these columns into one of `messages`, `prompt`, `completion`, `text` and `tools`; rows are
            read as they are when left out.
    """

    name: str
    columns: tuple[str, ...]
    convert: Callable[[Row], dict[str, Any]] | None = None

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.columns)})"


@dataclass(frozen=True)
class _Rule:
    """A format that is recognised by its columns."""

    name: str
    must_have: tuple[str, ...]
    optional: tuple[str, ...]
    convert: Callable[[Row], dict[str, Any]]
    applies: Callable[[Row], bool] = lambda row: True


def join(*parts: Any) -> str:
    """Returns the parts that hold text, with an empty line between them."""
    return "\n\n".join(str(part) for part in parts if part is not None and str(part).strip())


def pair(prompt: Any, completion: Any, system: Any = None) -> dict[str, Any]:
    """Returns the row of a prompt and its completion; a system prompt makes it a conversation."""
    completion = _number_as_text(completion)
    if isinstance(system, str) or is_message_list(prompt):
        turns = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
        questions = prompt if is_message_list(prompt) else [{"role": "user", "content": prompt or ""}]
        answers = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
        return {"prompt": [*turns, *questions], "completion": answers or None}
    return {"prompt": prompt, "completion": completion if completion not in ("", []) else None}


def _number_as_text(value: Any) -> Any:
    """Returns a number as text, one that is missing (NaN) as `None`, and everything else as it is.

    Whole numbers are written without a point: a column of whole numbers and others holds floats.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)


def _columns(*prompt: str, completion: str, system: str | None = None) -> Callable[[Row], dict[str, Any]]:
    """Returns the conversion of rows whose prompt is one column, or several joined by empty lines."""

    def convert(row: Row) -> dict[str, Any]:
        is_single = len(prompt) == 1
        text = row.get(prompt[0]) if is_single else join(*(row.get(name) for name in prompt))
        # Where the format has a system prompt, rows without one are conversations too.
        system_text = None if system is None or system not in row else row[system] or ""
        return pair(text, row.get(completion), system_text)

    return convert


def _conversations(column: str) -> Callable[[Row], dict[str, Any]]:
    def convert(row: Row) -> dict[str, Any]:
        turns = messages_of_turns(parsed_json(row.get(column)))
        system = row.get("system")
        if isinstance(system, str) and system.strip() and turns and not _begins_with_system(turns):
            turns = [{"role": "system", "content": system}, *turns]
        return {"messages": turns, "tools": row.get("tools")}

    return convert


def _begins_with_system(turns: Any) -> bool:
    """Returns whether a conversation begins with a system prompt; that of the column `system` is then not added."""
    first = turns[0] if isinstance(turns, list) else None
    return isinstance(first, Mapping) and str(first.get("role") or first.get("from")).lower() == "system"


def _alpaca(completion: str) -> Callable[[Row], dict[str, Any]]:
    """Returns the conversion of Alpaca's columns; a `history` of questions and answers comes before."""
    convert_columns = _columns("instruction", "input", completion=completion, system="system")

    def convert(row: Row) -> dict[str, Any]:
        last = convert_columns(row)
        if "history" not in row:
            return last
        # Where there is such a column, rows without a history are conversations too: trainers take one kind of row.
        turns = [turn for earlier in row["history"] or () for turn in earlier]
        prompt = last["prompt"] if is_message_list(last["prompt"]) else [{"role": "user", "content": last["prompt"]}]
        answer = last["completion"]
        answer = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        return {"prompt": [*prompt[:-1], *messages_of_turns(turns), prompt[-1]], "completion": answer}

    return convert


def _multiple_choice(question: str, answer: str) -> Callable[[Row], dict[str, Any]]:
    return lambda row: pair(*question_and_choice(row[question], row["choices"], row[answer]))


def _preference(row: Row) -> dict[str, Any]:
    """The chosen answer; it may repeat the prompt as its first messages."""
    prompt, answer = row["prompt"], parsed_messages(row["chosen"])
    if is_message_list(answer) and (len(answer) > 1 or not is_message_list(prompt)):
        if len(answer) > 1:
            return {"messages": answer}
        return pair([{"role": "user", "content": prompt}], answer)
    return pair(prompt, answer)


def _implicit_preference(row: Row) -> dict[str, Any]:
    answer = parsed_messages(row["chosen"])
    messages = answer if is_message_list(answer) else marked_turns(answer)
    is_plain = isinstance(answer, str) and len(messages) == 1  # no marks of speakers
    prompt = shared_beginning(answer, row["rejected"]) if is_plain else ""
    return pair(prompt, answer[len(prompt) :]) if prompt else {"messages": messages}


def shared_beginning(answer: str, other: Any) -> str:
    """Returns the prompt of two answers that both begin with it: what TRL's `extract_prompt` finds.

    A space before the answers belongs to them.

    Example:
        >>> shared_beginning("2 + 2 = 4", "2 + 2 = 5")
        '2 + 2 ='
    """
    if not isinstance(other, str):
        return ""
    pairs = enumerate(zip(answer, other, strict=False))
    end = next((place for place, (left, right) in pairs if left != right), 0)  # 0: one is the other's beginning
    return answer[:end].removesuffix(" ")


def _prompt_and_text(row: Row) -> dict[str, Any]:
    """A text that begins with the prompt has its completion behind it."""
    prompt, text = row["prompt"], row["text"]
    has_both = isinstance(prompt, str) and isinstance(text, str) and text.startswith(prompt) and prompt.strip()
    return pair(prompt, text[len(prompt) :]) if has_both else {"prompt": prompt, "completion": None}


def _squad(row: Row) -> dict[str, Any]:
    answers = row["answers"]
    texts = (answers.get("text") or []) if isinstance(answers, Mapping) else answers
    texts = [texts] if isinstance(texts, str) else list(texts or [])
    return pair(join(row["context"], row["question"]), next(iter(texts), None))


def _function_calls(row: Row) -> dict[str, Any]:
    answer, tools = answer_and_tools(row["answers"], row["tools"])
    return {"messages": [{"role": "user", "content": row["query"] or ""}, *answer], "tools": tools}


def _glaive(row: Row) -> dict[str, Any]:
    system = str(row.get("system") or "").removeprefix("SYSTEM:").strip()
    start = [{"role": "system", "content": system}] if system else []
    return {"messages": [*start, *marked_turns(row["chat"])]}


_RULES = (
    _Rule("preference", ("prompt", "chosen"), (), _preference),
    *(
        _Rule(f"prompt and {answer}", ("prompt", answer), ("system", "system_prompt"), convert)
        for answer in ("response", "answer", "output", "solution", "target")
        for convert in (lambda row, answer=answer: pair(row["prompt"], row[answer], _system(row)),)
    ),
    _Rule("prompt and text", ("prompt", "text"), (), _prompt_and_text),
    _Rule("ShareGPT", ("conversations",), ("system", "tools"), _conversations("conversations")),
    _Rule("WildChat", ("conversation",), ("system", "tools"), _conversations("conversation")),
    _Rule("HH", ("chosen", "rejected"), (), _implicit_preference),
    _Rule("xLAM", ("query", "answers", "tools"), (), _function_calls),
    _Rule("Glaive", ("chat",), ("system",), _glaive, lambda row: isinstance(row.get("chat", ""), str)),
    _Rule("Dolly", ("instruction", "context", "response"), (), _columns(
        "instruction", "context", completion="response")),
    _Rule("Alpaca", ("instruction", "output"), ("input", "system", "history"), _alpaca("output")),
    _Rule("instruction and response", ("instruction", "response"), ("input", "system", "history"), _alpaca("response")),
    _Rule("OpenOrca", ("system_prompt", "question", "response"), (), _columns(
        "question", completion="response", system="system_prompt")),
    *(
        _Rule("multiple choice", (question, "choices", answer), (), _multiple_choice(question, answer), has_choices)
        for question, answer in (("question", "answer"), ("question", "answerKey"), ("question_stem", "answerKey"))
    ),
    _Rule("SQuAD", ("context", "question", "answers"), (), _squad),
    *(
        _Rule(name, (prompt, completion), ("system", "system_prompt"), convert)
        for name, prompt, completion in (
            ("GSM8K", "question", "answer"),
            ("question and response", "question", "response"),
            ("MetaMath", "query", "response"),
            ("query and answer", "query", "answer"),
            ("FLAN", "inputs", "targets"),
            ("input and output", "input", "output"),
            ("input and response", "input", "response"),
            ("problem and solution", "problem", "solution"),
            ("problem and answer", "problem", "answer"),
            ("instruction and completion", "instruction", "completion"),
            ("question and solution", "question", "solution"),
        )
        for convert in (
            lambda row, prompt=prompt, completion=completion: pair(
                parsed_messages(row[prompt]), row[completion], _system(row)
            ),
        )
    ),
)  # fmt: skip


def _system(row: Row) -> str | None:
    """The system prompt of formats that may have one: `None` if there is no such column."""
    name = next((name for name in ("system", "system_prompt") if name in row), None)
    return None if name is None else str(row[name] or "")


def recognize_format(column_names: Sequence[str], first_row: Row) -> Format | None:
    r"""Returns the format of a data set whose columns are not those of TRL; `None` if no format fits.

    Args:
        column_names (`Sequence[str]`):
            Its columns.
        first_row (`Mapping`):
            A row of it.

    Example:
        >>> row = {"instruction": "Add.", "input": "2, 2", "output": "4"}
        >>> format = recognize_format(list(row), row)
        >>> print(format)
        Alpaca (instruction, output, input)
        >>> format.convert(row)
        {'prompt': 'Add.\n\n2, 2', 'completion': '4'}
    """
    for rule in _RULES:
        if set(rule.must_have) <= set(column_names) and rule.applies(first_row):
            optional = tuple(name for name in rule.optional if name in column_names)
            return Format(rule.name, rule.must_have + optional, rule.convert)
    return None


def required_columns() -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yields name and must_have columns of every format that is recognised."""
    return ((rule.name, rule.must_have) for rule in _RULES)


def text_column_names() -> list[str]:
    """Returns the names of all columns that are read as text, in any format."""
    names = [name for rule in _RULES for name in (*rule.must_have, *rule.optional)]
    return sorted({*names, "messages", "prompt", "completion", "text", "tools", "chat_template_kwargs"})
