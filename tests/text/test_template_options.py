"""A row may set switches of a chat template; it may not bring a template or arguments of the caller."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

from itl_hf import HiddenStates
from itl_hf.text import training_rows
from itl_hf.text.template_options import CALLERS_ARGUMENTS, template_options
from tests.tiny_models import tiny_model, tiny_tokenizer

HANGS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x"


def row(options):
    return {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": options}


@pytest.fixture(scope="module")
def embedder():
    return HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())


@pytest.mark.parametrize("form", [dict, json.dumps])
@pytest.mark.parametrize("name", sorted(CALLERS_ARGUMENTS))
def test_arguments_of_the_caller_are_refused(embedder, name, form):
    with pytest.raises(ValueError, match=f"row 1: column 'chat_template_kwargs' has '{name}'.*remove_columns"):
        embedder.check([row(None), row(form({name: HANGS}))])


@pytest.mark.parametrize("value", ["nonsense", "[1]", 3, ["a"]])
def test_what_is_no_mapping_is_refused(value):
    with pytest.raises(ValueError, match="row 0: column 'chat_template_kwargs' must be a mapping"):
        template_options(value, "row 0: ")


def test_a_template_in_a_row_is_refused_before_training():
    rows = Dataset.from_list([{"prompt": "a", "completion": "b", "chat_template_kwargs": {"chat_template": HANGS}}])
    with pytest.raises(ValueError, match=r"pool: row 0: .*'chat_template'"):
        training_rows(rows)


@pytest.mark.parametrize("options", [None, "", {}, {"enable_thinking": True}, '{"enable_thinking": true}'])
def test_switches_are_allowed(embedder, options):
    embedder.check([row(options)])
    assert template_options(options) == ({"enable_thinking": True} if options else {})


def test_empty_entries_that_come_from_other_rows_are_left_out():
    assert template_options({"chat_template": None, "max_length": None, "date": "today"}) == {"date": "today"}


def test_thousands_of_brackets_are_text():
    with pytest.raises(ValueError, match="must be a mapping"):
        template_options("[" * 100_000)
