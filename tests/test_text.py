import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itl_hf.text import RowTokenizer, Tokens, as_dataset, as_targets, plain_text, row_format, training_features
from tests.tiny_models import tiny_tokenizer

CONVERSATION = [{"role": "user", "content": "What is the sum?"}, {"role": "assistant", "content": "Five."}]


def decoded(tokenizer, tokens, span):
    return tokenizer.decode(tokens.input_ids[slice(*tokens.span(span))], clean_up_tokenization_spaces=False)


# --- as_dataset


def test_strings_become_a_text_column():
    assert as_dataset(["a", "b"]).to_dict() == {"text": ["a", "b"]}


def test_rows_with_different_keys_keep_every_column():
    dataset = as_dataset([{"prompt": "a"}, {"prompt": "b", "completion": "c"}])
    assert dataset[:] == {"prompt": ["a", "b"], "completion": [None, "c"]}


def test_a_dataset_is_returned_as_it_is():
    dataset = datasets.Dataset.from_dict({"text": ["a"]})
    assert as_dataset(dataset) is dataset


def test_dataset_dict_needs_a_split():
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})})
    assert as_dataset(splits, split="train")[0] == {"text": "a"}
    with pytest.raises(ValueError, match=r"targets is a DatasetDict: pass split=, one of \['train'\] \(got 'test'\)"):
        as_dataset(splits, "targets", split="test")
    with pytest.raises(ValueError, match="pass split="):
        as_dataset(splits)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, "pool has no rows"),
        (datasets.Dataset.from_dict({"text": []}), ValueError, "pool has no rows"),
        ("imdb", TypeError, "load_dataset first"),
        ({"text": ["a"]}, TypeError, "got dict"),
        (["a", 3], TypeError, "row 1 is a int"),
        ([{"a": b"1"}, {"a": 7}], ValueError, "pool: the rows do not fit into one table: column 'a', row 1"),
        (datasets.Dataset.from_dict({"text": ["a"]}).to_iterable_dataset(), TypeError, "streaming"),
    ],
)
def test_bad_data(data, error, message):
    with pytest.raises(error, match=message):
        as_dataset(data)


def test_split_without_splits():
    with pytest.raises(ValueError, match="has no splits"):
        as_dataset(["a"], split="train")


# --- row_format


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["messages", "prompt", "completion"], "prompt-completion"),
        (["messages", "prompt", "prompt_id"], "messages"),
        (["text", "prompt"], "prompt"),
        (["id", "text"], "text"),
    ],
)
def test_precedence(columns, expected):
    assert row_format(columns) == expected


def test_no_text_column_lists_what_was_found():
    with pytest.raises(ValueError, match=r"found \['answer', 'question'\], expected `messages`"):
        row_format(["question", "answer"])


# --- RowTokenizer


def test_strings_are_used_as_they_are():
    tokenizer = tiny_tokenizer()
    (tokens,) = RowTokenizer(tokenizer)([{"prompt": "The sum is", "completion": " five."}])
    assert (decoded(tokenizer, tokens, "prompt"), decoded(tokenizer, tokens, "completion")) == ("The sum is", " five.")
    assert tokens.input_ids == tokenizer("The sum is five.")["input_ids"]


def test_messages_go_through_the_template():
    tokenizer = tiny_tokenizer()
    (tokens,) = RowTokenizer(tokenizer)([{"messages": CONVERSATION}])
    assert (
        decoded(tokenizer, tokens, "prompt") == "<|im_start|>user\nWhat is the sum?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert decoded(tokenizer, tokens, "completion") == "Five.<|im_end|>\n"


def test_conversational_columns_equal_messages():
    rows = [{"messages": CONVERSATION}, {"prompt": CONVERSATION[:1], "completion": CONVERSATION[1:]}]
    first, second = RowTokenizer(tiny_tokenizer())(rows)
    assert first == second


def test_no_assistant_turn_at_the_end_is_all_prompt():
    tokenizer = tiny_tokenizer()
    tokens, answered = RowTokenizer(tokenizer)([{"messages": CONVERSATION[:1]}, {"messages": CONVERSATION}])
    assert tokens.span("completion") == (len(tokens.input_ids), len(tokens.input_ids))
    assert tokens.input_ids == answered.input_ids[: answered.prompt_length]


def test_text_is_all_prompt():
    (tokens,) = RowTokenizer(tiny_tokenizer())([{"text": "The dog ran."}])
    assert tokens.span("prompt") == tokens.span("whole") == (0, len(tokens.input_ids))


@pytest.mark.parametrize("bos_and_eos", [False, True])
@pytest.mark.parametrize("completion", [" five.", CONVERSATION[1:]])
def test_span_prompt_does_not_read_the_completion(bos_and_eos, completion):
    prompt = "The sum is" if isinstance(completion, str) else CONVERSATION[:1]
    tokenize = RowTokenizer(tiny_tokenizer(bos_and_eos=bos_and_eos), span="prompt")
    with_completion, without_completion = tokenize([{"prompt": prompt, "completion": completion}, {"prompt": prompt}])
    assert with_completion == without_completion


def test_a_token_across_the_boundary_belongs_to_the_completion():
    tokenizer = tiny_tokenizer()
    (tokens,) = RowTokenizer(tokenizer)([{"prompt": "The capital of Fra", "completion": "nce is Paris"}])
    assert tokens.input_ids == tokenizer("The capital of France is Paris")["input_ids"]
    assert "The capital of Fra".startswith(decoded(tokenizer, tokens, "prompt"))


def test_truncation_cuts_from_the_end():
    tokenizer = tiny_tokenizer()
    whole, cut = (
        RowTokenizer(tokenizer, max_length=n)([{"prompt": "The sum", "completion": " is"}])[0] for n in (99, 2)
    )
    assert cut.input_ids == whole.input_ids[:2]
    assert (cut.is_truncated, whole.is_truncated) == (True, False)
    assert cut.prompt_length <= 2


def test_padding_settings_of_the_tokenizer_do_not_matter():
    rows = [{"text": "The dog ran."}, {"text": "Paris"}]
    tokenizer = tiny_tokenizer(padding_side="left")
    before = RowTokenizer(tokenizer)(rows)
    tokenizer(
        ["a", "The dog ran across"], padding=True, truncation=True, max_length=3
    )  # leaves its mark in the backend
    assert RowTokenizer(tokenizer)(rows) == before == RowTokenizer(tiny_tokenizer(pad_token=False))(rows)


def test_mixed_formats_in_one_table():
    rows = list(as_dataset([{"text": "Paris"}, {"messages": CONVERSATION}, {"prompt": "The sum", "completion": None}]))
    alone = [RowTokenizer(tiny_tokenizer())([row])[0] for row in ({"text": "Paris"}, {"messages": CONVERSATION})]
    assert RowTokenizer(tiny_tokenizer())(rows)[:2] == alone


def test_tools_and_absent_keys_reach_the_template():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if tools %}T{{ tools | length }}{% endif %}{% for m in messages %}"
        "{% if 'name' in m %}N{% endif %}{{ m['content'] }}{% endfor %}"
    )
    row = {"messages": [{"role": "user", "content": "Hi", "name": None}], "tools": [{"type": "function"}]}
    assert decoded(tokenizer, RowTokenizer(tokenizer)([row])[0], "whole") == "T1Hi"


def test_parts_of_text_are_joined():
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "the sum?"}]}]
    tokenize = RowTokenizer(tiny_tokenizer())
    assert tokenize([{"messages": parts}]) == tokenize([{"messages": CONVERSATION[:1]}])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None}, "row 7: column 'prompt' is empty"),
        ({"prompt": "", "completion": "x"}, "row 7: column 'prompt' is empty"),
        ({"text": " \n"}, "row 7: column 'text' is empty"),
        ({"messages": []}, "row 7: column 'messages' is empty"),
        ({"messages": [{"role": "user", "content": ""}]}, "row 7: column 'messages' is empty"),
        ({"messages": CONVERSATION[1:]}, "no text before the assistant"),
        ({"messages": "Hi"}, "row 7: column 'messages' holds a string"),
        ({"text": CONVERSATION}, "row 7: column 'text' holds a conversation"),
        ({"prompt": 5}, "row 7: column 'prompt' must be a string or a list of messages, got int"),
        ({"prompt": CONVERSATION[:1], "completion": "x"}, "row 7: columns 'prompt' and 'completion' must both be"),
        ({"messages": [{"speaker": "human", "value": "Hi"}]}, "message 0 must be a dict with 'role'"),
        ({"messages": [3]}, "message 0 must be a dict with 'role'"),
        ({"messages": [{"role": "user", "content": 3}]}, "content must be a string"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "only text is read"),
        ({"question": "Hi"}, r"found \['question'\]"),
    ],
)
def test_bad_rows_name_row_and_column(row, message):
    tokenize = RowTokenizer(tiny_tokenizer())
    rows = [{"text": "fine"}, row]
    for read in (tokenize, tokenize.check):
        with pytest.raises(ValueError, match=message):
            read(rows, first_row=6)


def test_no_chat_template():
    tokenize = RowTokenizer(tiny_tokenizer(chat_template=False))
    tokenize([{"prompt": "strings need none"}])
    with pytest.raises(ValueError, match=r"row 0: column 'messages' holds a conversation, .* has no chat template"):
        tokenize.check([{"messages": CONVERSATION}])


def test_a_template_that_refuses_is_named_with_its_row():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ValueError, match=r"row 3: .* refused .* \['user'\]: roles must alternate"):
        RowTokenizer(tokenizer)([{"messages": CONVERSATION[:1]}], first_row=3)


@pytest.mark.parametrize("row", [{"prompt": "a", "completion": ""}, {"prompt": "a"}, {"text": "a"}])
def test_span_completion_needs_one(row):
    with pytest.raises(ValueError, match="row 2 has no completion"):
        RowTokenizer(tiny_tokenizer(), span="completion").check([row], first_row=2)


def test_a_prompt_that_fills_max_length_leaves_no_completion():
    tokenize = RowTokenizer(tiny_tokenizer(), span="completion", max_length=2)
    with pytest.raises(ValueError, match="row 0: nothing of its completion is left"):
        tokenize([{"prompt": "The capital of France", "completion": " is Paris"}])


@pytest.mark.parametrize("arguments", [{"span": "answer"}, {"max_length": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=r"span|max_length"):
        RowTokenizer(tiny_tokenizer(), **arguments)


TEXT = st.text(min_size=1, max_size=30).filter(str.strip)


@given(prompt=TEXT, completion=TEXT, max_length=st.integers(1, 40))
def test_spans_always_partition_the_row(prompt, completion, max_length):
    tokenize = RowTokenizer(tiny_tokenizer(), max_length=max_length)
    for tokens in tokenize([{"prompt": prompt, "completion": completion}, {"text": prompt}]):
        (zero, middle), (start, end) = tokens.span("prompt"), tokens.span("completion")
        assert zero == 0
        assert middle == start
        assert (0, end) == tokens.span("whole")
        assert 1 <= end <= max_length


# --- for people, and for training


def test_plain_text():
    system = {"role": "system", "content": "Be brief."}
    assert plain_text({"prompt": "a", "completion": "b"}) == ("a", "b")
    assert plain_text({"text": "a"}) == ("a", "")
    assert plain_text({"messages": CONVERSATION}) == ("What is the sum?", "Five.")
    assert plain_text({"messages": [system, *CONVERSATION]}) == ("system: Be brief.\nuser: What is the sum?", "Five.")
    with pytest.raises(ValueError, match=r"^column 'text' is empty"):
        plain_text({"text": ""})


def test_training_features():
    tokens = Tokens([5, 6, 7], prompt_length=2)
    assert training_features(tokens) == {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "labels": [-100, -100, 7]}
    assert training_features(tokens, completion_only=False)["labels"] == [5, 6, 7]


CHAT = datasets.Dataset.from_list([{"messages": [{"role": "user", "content": "Hi"}]}])


def test_strings_become_user_messages_where_the_pool_holds_conversations():
    assert as_targets(["What?"], CHAT)[0] == {"messages": [{"role": "user", "content": "What?"}]}
    assert as_targets(["What?"], as_dataset(["Hi"]))[0] == {"text": "What?"}


@pytest.mark.parametrize(
    "targets",
    [
        ("What?",),
        np.array(["What?"]),
        pd.Series(["What?"]),
        datasets.Dataset.from_dict({"prompt": ["What?"]})["prompt"],
        datasets.Dataset.from_dict({"text": ["What?"]}),
        [{"prompt": "What?"}],
    ],
)
def test_plain_text_is_a_user_message_in_every_form(targets):
    assert list(as_targets(targets, CHAT)) == [{"messages": [{"role": "user", "content": "What?"}]}]


def test_completions_and_other_columns_of_plain_targets_stay():
    (row,) = as_targets([{"prompt": "2 + 2?", "completion": "4", "id": 7}], CHAT)
    assert row["messages"][1] == {"role": "assistant", "content": "4"}
    assert row["id"] == 7


def test_conversations_as_targets_of_plain_text_cause_a_warning():
    with pytest.warns(UserWarning, match="the pool holds plain text and the targets conversations"):
        as_targets(CHAT, as_dataset(["Hi"]))


# --- formats of datasets


@pytest.mark.parametrize("format_type", ["torch", "numpy", "pandas", "arrow"])
def test_a_format_changes_nothing(format_type):
    rows = [{"messages": CONVERSATION, "source": i, "score": 0.5} for i in range(3)]
    dataset = as_dataset(rows)
    assert list(as_dataset(dataset.with_format(format_type))) == rows
    assert list(as_dataset(dataset.with_format(format_type, columns=["source"]))) == rows
    assert as_dataset(dataset.with_format(format_type))["source"][:] == [0, 1, 2]


def test_a_transform_is_refused():
    dataset = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(ValueError, match=r"targets: the dataset has a transform.*dataset\.map"):
        as_dataset(dataset.with_transform(lambda batch: batch), "targets")
