"""Rows are those that were passed, whatever the other rows hold and whichever way they came."""

from __future__ import annotations

import datetime
import json
import math
import tempfile
import warnings
from pathlib import Path

import datasets
import PIL.Image
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from itl_hf import Selector, load_rows
from itl_hf.embedding.row_keys import keys_of
from itl_hf.selection.result.parquet import write_parquet
from itl_hf.selection.result.selection import Selection
from itl_hf.text import RowTokenizer, TextRows, as_dataset
from tests.text.strategies import ROWS
from tests.text.template import TOOL_TEMPLATE, TokenCounts
from tests.tiny_models import tiny_tokenizer

#: Without shrinking, which takes minutes where an example writes files.
OPTIONS = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}
TOKENIZER = tiny_tokenizer()
TOKENIZER.chat_template = TOOL_TEMPLATE


def in_all_forms(rows, folder):
    """The same rows as list, JSON Lines, JSON list, Parquet and dataset."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    dataset = as_dataset(rows)
    write_parquet(dataset, folder / "rows.parquet")
    parquet = datasets.Dataset(pq.read_table(folder / "rows.parquet"))  # `load_dataset` takes half a second
    loaded = {name: load_rows(str(folder / f"rows.{name}")) for name in ("jsonl", "json")}
    return {"list": dataset, "dataset": as_dataset(dataset), "parquet": as_dataset(parquet), **loaded}


def with_all_columns(rows):
    columns = dict.fromkeys(key for row in rows for key in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def same(first, second):
    """Equal values of equal types: `1`, `1.0` and `True` differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


@settings(max_examples=50, **OPTIONS)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_list_json_parquet_and_dataset_are_the_same_rows(rows):
    tokenize = RowTokenizer(TOKENIZER)
    expected_tokens = tokenize(rows)
    expected_rows = with_all_columns(rows)
    with tempfile.TemporaryDirectory() as folder:
        keys = []
        for name, dataset in in_all_forms(rows, Path(folder)).items():
            numbers = {"id"}  # whole numbers and floats share a column of floats
            for given_row, row in zip(expected_rows, dataset, strict=True):
                assert {key: row[key] for key in numbers & row.keys()} == {
                    key: given_row[key] for key in numbers & given_row.keys()
                }, name
                assert same({**row, "id": 0}, {**given_row, "id": 0}), name
            text = TextRows(dataset)
            assert tokenize(text.read(range(len(text)))) == expected_tokens, name
            keys.append(keys_of(text).tolist())
        assert all(one == keys[0] for one in keys)


@settings(max_examples=6, **OPTIONS)
@given(st.lists(ROWS, min_size=4, max_size=6))
def test_picks_and_picked_rows_are_the_same_in_all_forms(rows):
    rows = [
        {**row, "messages": [{"role": "user", "content": f"Question {i}?"}, *row["messages"]]}
        for i, row in enumerate(rows)
    ]
    selector = Selector(TokenCounts(TOKENIZER))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selections = [
            selector.select(pool, ["Question 1?"], 2) for pool in (rows, *in_all_forms(rows, Path(folder)).values())
        ]
        for selection in selections:
            assert selection.indices.tolist() == selections[0].indices.tolist()
            saved = Selection.load(selection.save(Path(folder) / "selection", overwrite=True))
            for picked in (selection.dataset, saved.dataset):
                for number, row in zip(selection.indices, picked, strict=True):
                    given_row = rows[number]
                    for column in ("messages", "tools", "metadata"):
                        assert same(row.get(column), given_row.get(column)), column


def tools(*names):
    properties = {name: {"type": "string"} for name in names}
    function = {"name": "f", "parameters": {"properties": properties}}
    return [{"type": "function", "function": function}]


TOOL_ROWS = [
    {"messages": [{"role": "user", "content": "Weather?"}], "tools": tools("city")},
    {"messages": [{"role": "user", "content": "Product?"}], "tools": tools("a", "b")},
]


def test_keys_that_arrow_added_are_not_read():
    from_list = datasets.Dataset.from_list(TOOL_ROWS)
    assert from_list[0]["tools"] != TOOL_ROWS[0]["tools"]  # Arrow added `a` and `b`
    text = TextRows(from_list)
    assert list(text) == TOOL_ROWS
    assert "2 row(s) have keys in tools or tool calls that are null" in text.filled_keys_message()


def test_the_warning_about_added_keys_names_the_pool():
    pool = datasets.Dataset.from_list(TOOL_ROWS)
    with pytest.warns(UserWarning, match=r"pool: 2 row\(s\) have keys in tools"):
        Selector(TokenCounts(TOKENIZER)).select(pool, TOOL_ROWS[:1], 1)
    assert TextRows(as_dataset(TOOL_ROWS)).filled_keys_message() is None


def test_nulls_of_the_row_itself_stay():
    call = {"type": "function", "function": {"name": "f", "arguments": {"city": None, "unit": "C"}}}
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    rows = [{"messages": messages, "tools": [{"default": None}]}, {"messages": messages[:1], "tools": [{"default": 1}]}]
    assert list(TextRows(as_dataset(rows))) == rows
    # A key that is null in all rows was added by none.
    uniform = datasets.Dataset.from_list([{"text": "a", "tools": [{"default": None}]}] * 2)
    assert TextRows(uniform).read(range(1))[0]["tools"] == [{"default": None}]


def test_a_column_may_mix_types():
    rows = [{"prompt": "a", "id": 1}, {"prompt": [{"role": "user", "content": "b"}], "id": "x"}]
    assert list(as_dataset(rows)) == rows


def test_parquet_is_loaded_as_it_was_written(tmp_path):
    write_parquet(as_dataset(TOOL_ROWS), tmp_path / "rows.parquet")
    assert list(load_rows(str(tmp_path / "rows.parquet"))) == TOOL_ROWS


def test_values_that_json_does_not_have_stay():
    image = PIL.Image.new("RGB", (2, 2))
    dataset = as_dataset([{"prompt": "a", "image": image, "at": datetime.datetime(2020, 1, 1), "x": {"b": b"1"}}])
    assert dataset[0]["image"].size == (2, 2)
    assert dataset[0]["x"] == {"b": b"1"}


def test_numbers_that_json_parsers_round_stay():
    values = [{"x": 0.30000000000000004}, {"y": 2**70}, {"z": -1e-320}, {"n": math.inf}, {"s": "\ud800"}]
    assert list(as_dataset([{"text": "a", "v": value} for value in values])["v"]) == values


def test_compressed_json_and_a_second_reading(tmp_path):
    import gzip

    lines = b'\xef\xbb\xbf\n{"text": "a"}\r\n\n"b"\n'
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines))
    for _ in range(2):  # the second time from the cache
        assert load_rows(str(tmp_path / "rows.jsonl.gz"))["text"] == ["a", "b"]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "another"}'))
    assert load_rows(str(tmp_path / "rows.jsonl.gz"))["text"] == ["another"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("\n\n", "has no rows"),
        ("[]", "has no rows"),
        ('{"text": "a"}\n[1]\n', "line 2 is a list"),
        ('{"text": "a"}\n{"text": \n', "line 2: Expecting value"),
        ('[{"text": "a"}, 3]', "row 1 is a int"),
    ],
)
def test_json_files_that_are_refused(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_rows(str(tmp_path / "rows.jsonl"))
