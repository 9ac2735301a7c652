"""The search finds what Python's `in` finds in the rows' text, for every query."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itl_hf.report.explorer import search_index
from itl_hf.report.explorer.row_table import matching_picks
from itl_hf.report.explorer.row_text import hit_excerpts
from itl_hf.report.explorer.search_index import SearchIndex
from itl_hf.report.explorer.session import Filters
from itl_hf.text import ColumnMapping, TextRows
from itl_hf.text.excerpts import excerpt

CHAT = [
    [{"role": "user", "content": "Sort the LETTERS"}, {"role": "assistant", "content": "abc"}],
    [{"role": "user", "content": "Count the words"}, {"role": "assistant", "content": "Straße 100%"}],
]


def index_of(texts):
    return SearchIndex(TextRows(Dataset.from_dict({"text": texts})))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.text(alphabet="aBß.%_\\ \n", max_size=6), min_size=1, max_size=9),
    st.text(alphabet="abßS.%_\\", max_size=3),
)
def test_it_finds_the_rows_that_contain_the_text(texts, query):
    key = query.casefold().strip()
    expected_rows = [row for row, text in enumerate(texts) if key and key in text.casefold()]
    assert index_of(texts).matching_rows(query).tolist() == expected_rows


def test_roles_and_other_columns_are_not_searched_and_completions_are():
    rows = TextRows(Dataset.from_dict({"messages": CHAT, "source": ["assistant", "words"]}))
    index = SearchIndex(rows)
    assert index.matching_rows("letters").tolist() == [0]
    assert index.matching_rows("STRASSE").tolist() == [1]
    assert index.matching_rows("source").tolist() == []


def test_columns_that_users_named_are_searched():
    rows = Dataset.from_dict({"question": ["what?", "who?"], "reply": ["a pear", "an apple"]})
    index = SearchIndex(TextRows(rows, ColumnMapping({"prompt": "question", "completion": "reply"})))
    assert index.matching_rows("apple").tolist() == [1]


def test_many_batches_have_the_numbers_of_their_rows(monkeypatch):
    monkeypatch.setattr(search_index, "_BATCH_ROWS", 3)
    assert index_of([f"number {row}" for row in range(11)]).matching_rows("number 1").tolist() == [1, 10]


def test_the_file_is_deleted_with_the_index():
    index = index_of(["one"])
    index.matching_rows("one")
    path = index._path
    assert path.exists()
    del index
    assert not path.exists()


def test_picks_are_found_by_the_filter_if_and_only_if_the_search_finds_their_rows(explorer_data, example):
    for query in ("POEMS", "number 1", "please.", "zebra"):
        rows = explorer_data.search_index.matching_rows(query)
        ranks = matching_picks(example.selection, Filters(text=query))
        assert ranks == np.flatnonzero(np.isin(example.selection.indices, rows)).tolist()


@pytest.mark.parametrize("query", ["needle", "NEEDLE "])
def test_the_line_of_a_row_shows_the_text_that_was_searched(query):
    texts = [f"{'one two ' * 60}{number} needle {number}{' three four' * 60}" for number in range(3)]
    assert all(f"{number} needle {number}" in line for number, line in enumerate(hit_excerpts(texts, query)))
    alike = [f"{'one two ' * 40} needle {'three ' * 40} {number}" for number in range(3)]
    assert [line[-1] for line in hit_excerpts(alike, query)] == ["0", "1", "2"]
    assert hit_excerpts(["short needle"], query) == [excerpt("short needle")]
