"""Roles of messages, and rows that are read alike."""

from __future__ import annotations

import pytest

from itl_hf import Selector
from itl_hf.text import RowTokenizer, plain_text
from itl_hf.text.alike import collect_alike_rows
from itl_hf.text.roles import known_role, roles_in_template
from tests.text.template import TOOL_TEMPLATE, TokenCounts
from tests.tiny_models import tiny_tokenizer

#: Prints the roles that it knows and leaves out all others, as those of Qwen, Phi and DeepSeek do.
SELECTIVE = (
    "{% for m in messages %}{% if m['role'] == 'user' or m.role in ['assistant', 'critic'] %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def chat(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("question", "answer"),
    [("human", "gpt"), ("Human", "GPT"), ("user", "model"), ("prompter", "bot"), ("user", "chatgpt"), ("USER", "ai")],
)
def test_other_names_of_speakers_give_the_same_tokens(question, answer):
    read = RowTokenizer(tokenizer_with(SELECTIVE))
    expected = read([chat(("user", "What?"), ("assistant", "That."))])
    assert read([chat((question, "What?"), (answer, "That."))]) == expected
    share_gpt = {"messages": [{"from": question, "value": "What?"}, {"from": answer, "value": "That."}]}
    assert read([share_gpt]) == expected
    assert plain_text(share_gpt) == ("What?", "That.")


def test_the_last_answer_of_a_model_is_not_part_of_the_prompt():
    read = RowTokenizer(tokenizer_with(TOOL_TEMPLATE), span="prompt")
    assert read([chat(("user", "What?"), ("model", "That."))]) == read([chat(("user", "What?"))])


def test_other_names_of_system_and_tool_stay_where_the_template_knows_them():
    assert known_role("ipython", frozenset({"ipython"})) == "ipython"
    assert known_role("ipython", frozenset({"tool"})) == "tool"
    assert known_role("developer", frozenset()) == "system"
    assert known_role("observation") == "tool"


def test_unknown_roles_are_refused_with_row_and_role():
    rows = [chat(("user", "a")), chat(("user", "b"), ("narrator", "c"))]
    with pytest.raises(ValueError, match=r"row 8: column 'messages', message 1: role 'narrator' is neither"):
        RowTokenizer(tokenizer_with(SELECTIVE)).check(rows, first_row=7)
    embedder = TokenCounts(tokenizer_with(SELECTIVE))
    with pytest.raises(ValueError, match=r"pool: row 1.*narrator.*critic"):
        Selector(embedder).select(rows, ["a"], 1)
    with pytest.raises(ValueError, match=r"targets: row 1.*narrator"):
        Selector(embedder).select(rows[:1] * 2, rows, 1)


def test_a_role_that_the_template_names_is_printed():
    (tokens,) = RowTokenizer(tokenizer_with(SELECTIVE))([chat(("user", "a"), ("critic", "Paris"))])
    assert "critic" in tokenizer_with(SELECTIVE).decode(tokens.input_ids)


def test_roles_in_templates():
    assert roles_in_template("{% if message['role'] == \"user\" or message.role in ('a', 'b') %}{{ 'c' }}") == {
        *("user", "a", "b")
    }
    assert roles_in_template({"default": "{% if m.role == 'x' %}", "tools": "{% if m['role'] == 'y' %}"}) == {"x", "y"}
    assert roles_in_template(None) == frozenset()


# --- rows that are read alike


def alike(rows, template=SELECTIVE, **options):
    with collect_alike_rows() as collector:
        RowTokenizer(tokenizer_with(template), **options).check(rows)
    return collector


def test_rows_that_a_template_reads_alike_are_counted_once():
    rows = [chat(("system", f"s{i % 3}"), ("user", text)) for i, text in enumerate("aaabbbc")]
    message = alike(rows).message()
    assert message.startswith("6 rows of different text are read as 2 (the first two are rows 0 and 1): the chat templ")
    with pytest.warns(UserWarning, match="pool: 6 rows of different text are read as 2"):
        Selector(TokenCounts(tokenizer_with(SELECTIVE))).select(rows, ["a"], 1)


def test_rows_that_differ_beyond_max_length_only():
    rows = [chat(("user", f"{'the same beginning of a question ' * 5}{i}")) for i in range(4)]
    message = alike(rows, max_length=20).message()
    assert message.startswith("4 rows of different text are read as 1 (the first two are rows 0 and 1): they differ on")
    assert "max_length=20" in message
    assert alike([{"text": row["messages"][0]["content"]} for row in rows], max_length=20).message() == message
    assert alike(rows, max_length=500).message() is None


def test_equal_rows_and_unread_completions_are_not_reported():
    rows = [chat(("user", "a"), ("assistant", answer)) for answer in "xyz"]
    assert alike(rows, span="prompt").message() is None
    assert alike(rows[:1] * 3).message() is None
    assert alike([]).message() is None


def test_a_refusal_of_the_template_shows_in_the_check():
    strict = "{% if messages|length > 1 %}{{ raise_exception('one message only') }}{% endif %}" + SELECTIVE
    with pytest.raises(ValueError, match=r"row 1: the tokenizer's chat template refused.*one message only"):
        RowTokenizer(tokenizer_with(strict)).check([chat(("user", "a")), chat(("user", "a"), ("user", "b"))])
