"""Public formats: five made-up rows of each are read, and what is read is what is trained on."""

from __future__ import annotations

import json

import pytest

from itl_hf.text import RowTokenizer, TextRows, as_dataset, plain_text
from itl_hf.text.column_mapping import ColumnMapping
from itl_hf.text.recognize import likely
from itl_hf.text.trained_rows import training_rows, with_read_columns
from tests.text.template import TOOL_TEMPLATE
from tests.tiny_models import tiny_tokenizer

Q, A, S = "What is it?", "It is that.", "Be brief."
USER, ASSISTANT = {"role": "user", "content": Q}, {"role": "assistant", "content": A}
SYSTEM = {"role": "system", "content": S}
CALL = {"name": "f", "arguments": {"x": 1}}
TOOL = {"name": "f", "description": "d", "parameters": {"x": {"type": "int"}}}


def from_value(*turns):
    return [{"from": role, "value": text} for role, text in turns]


#: Name, a row, and prompt and completion as people read them.
FORMATS = [
    ("Alpaca", {"instruction": Q, "input": "", "output": A}, (Q, A)),
    ("Alpaca with input", {"instruction": "Add.", "input": "2, 2", "output": "4"}, ("Add.\n\n2, 2", "4")),
    ("Alpaca with text", {"instruction": Q, "input": "", "output": A, "text": f"{Q} {A}"}, (f"{Q} {A}", "")),
    ("Alpaca with system", {"instruction": Q, "output": A, "system": S}, (f"system: {S}\nuser: {Q}", A)),
    ("OpenOrca", {"id": "1", "system_prompt": S, "question": Q, "response": A}, (f"system: {S}\nuser: {Q}", A)),
    ("OpenOrca without", {"id": "1", "system_prompt": "", "question": Q, "response": A}, (Q, A)),
    ("Dolly", {"instruction": Q, "context": "C", "response": A, "category": "qa"}, (f"{Q}\n\nC", A)),
    ("GSM8K", {"question": Q, "answer": A}, (Q, A)),
    ("MetaMath", {"query": Q, "response": A, "type": "GSM"}, (Q, A)),
    ("FLAN", {"inputs": Q, "targets": A}, (Q, A)),
    ("Aya", {"inputs": Q, "targets": A, "language": "en"}, (Q, A)),
    ("SQuAD", {"context": "C", "question": Q, "answers": {"text": [A, "x"], "answer_start": [0, 1]}}, (f"C\n\n{Q}", A)),
    ("MMLU", {"question": Q, "subject": "x", "choices": ["3", "4"], "answer": 1}, (f"{Q}\n\nA. 3\nB. 4", "B")),
    (
        "ARC",
        {"id": "1", "question": Q, "choices": {"text": ["3", "4"], "label": ["1", "2"]}, "answerKey": "2"},
        (f"{Q}\n\n1. 3\n2. 4", "2"),
    ),
    (
        "OpenBookQA",
        {"question_stem": Q, "choices": {"text": ["3", "4"], "label": ["A", "B"]}, "answerKey": "A"},
        (f"{Q}\n\nA. 3\nB. 4", "A"),
    ),
    ("answer in words", {"question": Q, "choices": ["3", "4"], "answer": "4"}, (f"{Q}\n\nA. 3\nB. 4", "B")),
    (
        "Alpaca with history",
        {"instruction": Q, "input": "", "output": A, "history": [["a", "b"]]},
        (f"user: a\nassistant: b\nuser: {Q}", A),
    ),
    ("Alpaca without history", {"instruction": Q, "input": "", "output": A, "history": []}, (Q, A)),
    (
        "system twice",
        {"system": S, "conversations": from_value(("system", S), ("human", Q), ("gpt", A))},
        (f"system: {S}\nuser: {Q}", A),
    ),
    ("questions that are JSON", {"question": "[3, 1, 2]", "answer": "[1, 2, 3]"}, ("[3, 1, 2]", "[1, 2, 3]")),
    ("objects that are JSON", {"query": '{"a": 1}', "response": "{}"}, ('{"a": 1}', "{}")),
    ("DPO, JSON", {"prompt": Q, "chosen": '[{"name": "x"}]', "rejected": "[]"}, (Q, '[{"name": "x"}]')),
    ("SQuAD none", {"context": "C", "question": Q, "answers": {"text": [], "answer_start": []}}, (f"C\n\n{Q}", "")),
    ("Nemotron", {"input": [USER], "output": A, "category": "chat"}, (Q, A)),
    ("WildChat", {"conversation": [USER, ASSISTANT], "language": "English"}, (Q, A)),
    ("LIMA", {"conversations": [Q, A], "source": "x"}, (Q, A)),
    ("HH", {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": "\n\nHuman: x\n\nAssistant: y"}, (Q, A)),
    ("preference, shared beginning", {"chosen": f"{Q} {A}", "rejected": f"{Q} no"}, (Q, f" {A}")),
    ("preference, messages", {"chosen": [USER, ASSISTANT], "rejected": [USER]}, (Q, A)),
    ("DPO", {"prompt": Q, "chosen": A, "rejected": "no"}, (Q, A)),
    ("DPO, messages", {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [ASSISTANT]}, (Q, A)),
    ("UltraFeedback", {"prompt": Q, "chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}, (Q, A)),
    ("HelpSteer", {"prompt": Q, "response": A, "helpfulness": 3}, (Q, A)),
    ("UltraChat", {"prompt": Q, "prompt_id": "1", "messages": [USER, ASSISTANT]}, (Q, A)),
    ("prompt and text", {"prompt": Q, "text": f"{Q} {A}"}, (Q, f" {A}")),
    ("OpenHermes", {"conversations": from_value(("human", Q), ("gpt", A)), "source": "x"}, (Q, A)),
    ("Magpie", {"conversations": from_value(("human", Q), ("gpt", A)), "instruction": Q, "response": A}, (Q, A)),
    (
        "OpenThoughts",
        {"system": S, "conversations": from_value(("user", Q), ("assistant", A))},
        (f"system: {S}\nuser: {Q}", A),
    ),
    (
        "Hermes function calling",
        {"conversations": from_value(("system", S), ("human", Q), ("gpt", A)), "tools": json.dumps([TOOL])},
        (f"system: {S}\nuser: {Q}", A),
    ),
    ("xLAM", {"query": Q, "answers": json.dumps([CALL]), "tools": json.dumps([TOOL])}, (Q, None)),
    (
        "Glaive",
        {"system": f"SYSTEM: {S}", "chat": f"USER: {Q}\n\n\nASSISTANT: {A} <|endoftext|>"},
        (f"system: {S}\nuser: {Q}", A),
    ),
    ("messages as JSON", {"messages": json.dumps([USER, ASSISTANT])}, (Q, A)),
    ("NuminaMath", {"problem": "x", "solution": "y", "messages": [USER, ASSISTANT]}, (Q, A)),
    ("problem and solution", {"problem": Q, "solution": A}, (Q, A)),
    ("KTO", {"prompt": [USER], "completion": [ASSISTANT], "label": True}, (Q, A)),
    ("content as parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}]}, ASSISTANT]}, (Q, A)),
]


@pytest.mark.parametrize(("name", "row", "expected"), FORMATS, ids=[name for name, *_ in FORMATS])
def test_public_formats(name, row, expected):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TOOL_TEMPLATE
    dataset = as_dataset([row] * 5)
    rows = list(TextRows(dataset))
    prompt, completion = plain_text(rows[0])
    assert prompt == expected[0]
    assert expected[1] in (completion, None)
    assert plain_text(row) == plain_text(rows[0])  # a row alone is read in the same way
    tokens = RowTokenizer(tokenizer)(rows)
    if not completion and "text" not in rows[0] and "messages" not in rows[0]:
        with pytest.raises(ValueError, match="prompts and no completions"):
            training_rows(dataset)
        return
    # What trainers read is the same: canonical columns, and the same tokens.
    trained = training_rows(dataset)
    assert set(trained.column_names) <= {"messages", "prompt", "completion", "text", "tools", "chat_template_kwargs"}
    assert RowTokenizer(tokenizer)(list(trained)) == tokens


def test_function_calls_are_read_as_calls():
    (row,) = TextRows(as_dataset([FORMATS[[name for name, *_ in FORMATS].index("xLAM")][1]]))
    assert row["messages"][1]["tool_calls"] == [{"type": "function", "function": CALL}]
    assert row["tools"] == [{"type": "function", "function": TOOL}]


def test_tools_as_json_give_the_same_tokens():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TOOL_TEMPLATE
    first, second = RowTokenizer(tokenizer)(
        [{"messages": [USER], "tools": [TOOL]}, {"messages": [USER], "tools": json.dumps([TOOL])}]
    )
    assert first == second


def test_calls_as_json_give_the_same_tokens():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TOOL_TEMPLATE
    calls = [{"type": "function", "function": CALL}]
    rows = [{"messages": [USER, {**ASSISTANT, "tool_calls": one}]} for one in (calls, json.dumps(calls))]
    first, second = RowTokenizer(tokenizer)(rows)
    assert first == second
    trained = training_rows(as_dataset(rows))
    assert [row["messages"][1]["tool_calls"] for row in TextRows(trained)] == [calls, calls]
    with pytest.raises(ValueError, match=r"row 0: .*message 1: tool_calls must be a list of calls"):
        RowTokenizer(tokenizer)([{"messages": [USER, {**ASSISTANT, "tool_calls": "f(1)"}]}])


def test_answers_that_are_numbers_do_not_depend_on_other_rows():
    whole = list(TextRows(as_dataset([{"question": Q, "answer": 7}])))
    for other in (2.5, float("nan"), None):
        rows = list(TextRows(as_dataset([{"question": Q, "answer": 7}, {"question": Q, "answer": other}])))
        assert rows[0] == whole[0] == {"prompt": Q, "completion": "7"}
        assert rows[1].get("completion") == ("2.5" if other == 2.5 else None)


def test_rows_with_and_without_a_history_are_trained_on_together():
    rows = [{"instruction": Q, "input": "", "output": A, "history": turns} for turns in ([], [["a", "b"]], None)]
    trained = training_rows(as_dataset(rows))
    assert [len(row["prompt"]) for row in trained] == [1, 3, 1]
    assert all(row["completion"] == [ASSISTANT] for row in trained)


@pytest.mark.parametrize("row", [{"choices": [], "answer": 0}, {"choices": ["a", "b"], "answer": 2}])
def test_questions_without_their_choice_are_bad_rows(row):
    rows = TextRows(as_dataset([{"question": Q, "choices": ["a", "b"], "answer": 0}, {"question": Q, **row}]))
    assert list(rows)[1] == {"prompt": None}


@pytest.mark.parametrize(
    ("columns", "template", "expected"),
    [
        ({"prompt": "q", "completion": "a"}, None, ("Q1", "A1")),
        ("prompt=q completion=a", None, ("Q1", "A1")),
        (["prompt=q", "completion=a", "system=s"], None, ("system: S1\nuser: Q1", "A1")),
        ({"completion": "a"}, "{s}:\n{q} {missing}"[:-10], ("S1:\nQ1", "A1")),
        ({"text": "q"}, None, ("Q1", "")),
        ({"messages": "m"}, None, ("Q2", "A2")),
        ({"prompt": "q", "completion": "j"}, None, ("Q1", '{"name": "x"}')),
        ({"prompt": "l", "completion": "a"}, None, ('[{"x": 1}]', "A1")),
        ({"prompt": "c", "completion": "a"}, None, ("Q3", "A1")),
    ],
)
def test_columns_that_are_named(columns, template, expected):
    row = {
        "q": "Q1", "a": "A1", "s": "S1",
        "m": [{"from": "human", "value": "Q2"}, {"from": "gpt", "value": "A2"}],
        "j": '{"name": "x"}', "l": '[{"x": 1}]', "c": json.dumps([{"role": "user", "content": "Q3"}]),
    }  # fmt: skip
    mapping = ColumnMapping.of(columns, template)
    dataset = as_dataset([row])
    assert plain_text(next(iter(TextRows(dataset, mapping)))) == expected
    # A dataset of picks has the columns that were read, and needs no mapping any more.
    picked = with_read_columns(dataset, mapping)
    assert plain_text(picked[0]) == expected
    assert picked[0]["q"] == "Q1"
    again = ColumnMapping.of(**mapping.to_json())
    assert again == mapping


def test_values_with_braces_are_no_template():
    mapping = ColumnMapping.of(None, "{a} and {b}")
    rows = TextRows(as_dataset([{"a": "{b}", "b": "{a.__class__}"}]), mapping)
    assert plain_text(next(iter(rows)))[0] == "{b} and {a.__class__}"


@pytest.mark.parametrize(
    ("columns", "template", "message"),
    [
        ({"question": "q"}, None, "'question' is no part of a row"),
        ({"completion": "q"}, None, "one of messages, prompt, text and prompt_template"),
        ({"prompt": "q", "text": "q"}, None, "got prompt and text"),
        ("question", None, "must be part=column"),
        (None, "no column", "names no column"),
        ({"text": "q", "completion": "a"}, None, "completion goes with"),
    ],
)
def test_mappings_that_are_refused(columns, template, message):
    with pytest.raises(ValueError, match=message):
        ColumnMapping.of(columns, template)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="there is no column 'q'; the columns are"):
        TextRows(as_dataset([{"a": "x"}]), ColumnMapping.of({"prompt": "q"}))


def test_targets_may_lack_the_completion():
    mapping = ColumnMapping.of({"prompt": "q", "completion": "a"})
    (row,) = TextRows(as_dataset([{"q": "x"}]), mapping, "targets")
    assert plain_text(row) == ("x", "")


def test_unknown_columns_are_answered_with_commands():
    with pytest.raises(
        ValueError, match="no format is known for the columns of the targets: body, reply_text"
    ) as error:
        TextRows(as_dataset([{"body": "x", "reply_text": "y"}]), name="targets")
    assert "  --targets_columns prompt=body completion=reply_text\n" in str(error.value)
    assert "  --targets_columns text=body\n" in str(error.value)
    assert likely(["question", "best_answer"])[0] == {"prompt": "question", "completion": "best_answer"}
    assert likely(["dialog"])[0] == {"messages": "dialog"}


def test_columns_of_numbers_are_not_suggested():
    with pytest.raises(ValueError, match="columns of the pool: input_ids, labels") as error:
        TextRows(as_dataset([{"input_ids": [1, 2], "labels": [1, 2]}]))
    assert "=input_ids" not in str(error.value)
