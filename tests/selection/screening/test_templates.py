"""Rows and targets with the same wording are no copies of each other, whatever few or many there are."""

from __future__ import annotations

import random
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Trainer

from itl_hf import HiddenStates, Selector
from itl_hf.embedding.row_reading import read_dataset
from itl_hf.selection.screening.alignment import MOST_WORDS, align, has_other_content
from itl_hf.selection.screening.larger_pool import LargerPool, pool_wording
from itl_hf.selection.screening.overlap import MOST_HOLDERS, Corpus, shared_runs, words_of
from itl_hf.selection.screening.screening import screen
from itl_hf.text import as_dataset, plain_text
from itl_hf.training import attach, rounds
from tests.training import tiny

WORDS = re.findall(
    r"\w+",
    """apple river stone cloud lamp tiger paper music green house winter bread silver garden ocean mirror ladder forest
    button castle dragon engine feather guitar hammer island jacket kettle lemon magnet needle orange pencil quartz
    ribbon saddle temple urchin velvet walnut yellow zipper anchor basket candle desert ember fabric goblet harbor""",
)
FILLERS = [f"Tell me about number {i} {i * i} and {i * 7}." for i in range(200)]
TEMPLATES = {
    "list": "Solve the following problem.\n\nProvide you answer as a comma-separated list of words with a space after "
    "the comma.\n\nReverse this list of words: {0}, {1}, {2}, {3}",
    "two places": "You are a helpful assistant for people who cook. Name a dish with {0} {1} that children like, and "
    "one with {2} {3} for guests who come late. Answer in one sentence.",
    "sum": "What is the sum of {4} and {5}? Think step by step, write down every step that you take, and put only the "
    "final result into the last line.",
    "question first": "{0} {1} {2} {3} {0}?\nAnswer the question above with one of these words and nothing else: yes, "
    "no, perhaps, never.",
}


def fill(name, rng, vocabulary):
    return TEMPLATES[name].format(*rng.choice(vocabulary, 4, replace=False), *rng.integers(10, 10_000, 2))


def prompts_of(name, num_rows, num_targets):
    rng = np.random.default_rng(num_rows)
    rows = [fill(name, rng, WORDS[:25]) for _ in range(num_rows)]
    return rows, [fill(name, rng, WORDS[25:]) for _ in range(num_targets)]


def screen_prompts(pool, targets, picks=(0,)):
    rows = as_dataset([{"prompt": prompt, "completion": "ok"} for prompt in pool])
    nearest = np.zeros((1, len(targets)), dtype=int)
    return screen(rows, list(picks), nearest, read_dataset(rows), targets)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("num_rows", [1, 2, 3, MOST_HOLDERS, MOST_HOLDERS + 1, 30])
@pytest.mark.parametrize("num_targets", [1, 2, 4, 24])
def test_a_shared_template_makes_no_copies(name, num_rows, num_targets):
    rows, targets = prompts_of(name, num_rows, num_targets)
    assert screen_prompts(rows + FILLERS, targets, range(num_rows)).copies == ()


@pytest.mark.parametrize("name", ["list", "two places", "question first"])
@pytest.mark.parametrize("num_rows", [1, 3, MOST_HOLDERS, 30])
def test_a_copy_is_found_among_rows_of_its_template(name, num_rows):
    rows, targets = prompts_of(name, num_rows, 8)
    edits = [str.upper, lambda text: f"Please help me. {text} Thank you very much!", lambda text: text[:-1]]
    copies = [edit(target) for edit, target in zip(edits, targets, strict=False)]
    found = screen_prompts(rows + copies + FILLERS, targets)
    assert {(copy.target, copy.row - num_rows) for copy in found.copies} == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("num_rows", [2, 4])
def test_picks_of_one_template_are_no_duplicates(name, num_rows):
    rows = [fill(name, np.random.default_rng(i), WORDS[4 * i : 4 * i + 4]) for i in range(num_rows)]
    assert screen_prompts(rows + FILLERS, ["none of this"], range(num_rows)).duplicates == ()


def test_a_few_changed_words_in_a_long_text_make_it_no_other_one():
    story = " ".join(np.random.default_rng(0).choice(WORDS, 200))
    changed = story.split()
    changed[20:24] = ["some", "quite", "different", "words"]
    changed[100] = "2024"
    corpus = Corpus({0: " ".join(changed), 1: " ".join(reversed(changed))})
    assert list(corpus.near(story)) == [0]


def test_other_numbers_are_another_problem_and_one_of_many_is_not():
    question = words_of("If 12 workers need 30 days, how long do 18 workers need?")
    assert has_other_content(question, words_of("If 15 workers need 44 days, how long do 18 workers need?"))
    assert not has_other_content(question, words_of("If 12 workers need 30 days, how long do 19 workers need?"))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("(0xbb5d >> 0x1) in hexadecimal", "(0xb2a0 >> 0x7) in hexadecimal"),
        (
            "Roll 1d20, 1d14 and 1d8: the odds of 21 or more, as 1/60",
            "Roll 1d20, 1d6 and 1d4: the odds of 23 or more, as 1/60",
        ),
        ("Compute 879.2124^3 to 3 digits, as 1.23e+4", "Compute 925.9611^3 to 3 digits, as 1.23e+4"),
        (
            f"{'Each letter is a digit . ' * 9}TBUK + IBIVT = IRVYV",
            f"{'Each letter is a digit . ' * 9}FUIPF + NRHRR = IPUONK",
        ),
    ],
)
def test_problems_of_one_kind_are_no_copies(text, other):
    assert has_other_content(words_of(text), words_of(other))


def test_words_replaced_here_and_there_in_a_long_text_are_edits():
    text = words_of(" ".join(f"word{i}" for i in range(100)))
    scattered = tuple("new" if i in (10, 30, 50, 70) else word for i, word in enumerate(text))
    in_a_row = tuple("new" if 10 <= i < 14 else word for i, word in enumerate(text))
    assert not has_other_content(text, scattered)
    assert has_other_content(text, in_a_row)


def test_a_corpus_of_the_compared_texts_finds_the_same():
    rng = random.Random(0)
    texts = {i: " ".join(rng.choices("abcdefgh", k=12)) for i in range(300)}
    texts |= {300 + i: f"{texts[i]} {rng.choice('abc')}" for i in range(20)}
    others, picks = [texts[i][2:] for i in range(40, 50)], [3, 303, 5, 305, 7, 100, 310, 10]
    whole, part = Corpus(texts, others), Corpus(texts, others, only=picks)
    assert whole.near_pairs(picks) == part.near_pairs(picks) != []
    assert [whole.near(text) for text in others] == [part.near(text) for text in others]
    assert any(whole.near(text) for text in others)


def test_further_texts_show_where_a_template_is_filled():
    template = "Please translate the word {} into French for me, and add no explanation of any kind."
    lamp, house, bread = (words_of(template.format(word)) for word in ("lamp", "house", "bread"))
    assert not has_other_content(lamp, house)
    assert has_other_content(lamp, house, [bread])
    edited = words_of(template.format("lamp").replace("explanation", "comment"))
    assert not has_other_content(lamp, edited, [house, bread])


def test_texts_that_are_too_long_are_not_aligned():
    long_text = ("word",) * (MOST_WORDS + 1)
    assert align(long_text, ("other",)).replacements == ()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcd.,1"), max_size=12), st.lists(st.sampled_from("abcd.,1"), max_size=12))
def test_replacements_are_of_the_text(text, other):
    text, other = tuple(text), tuple(other)
    replacements = align(text, other).replacements
    places = [place for one in replacements for place in one.places]
    assert places == sorted(set(places))
    assert all(one.old == tuple(text[place] for place in one.places) for one in replacements)
    assert all(set(one.new) <= set(other) for one in replacements)
    assert not has_other_content(text, (*other, *text, *other)[len(other) :][: len(text)])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_shared_runs_are_those_that_a_corpus_of_all_texts_counts(data):
    texts = st.lists(st.sampled_from("abc"), min_size=1, max_size=8).map(" ".join)
    pool = data.draw(st.lists(texts, max_size=30))
    targets = data.draw(st.lists(texts, min_size=1, max_size=8))
    corpus = Corpus(dict(enumerate(pool)), targets)
    own_runs = {run for target in targets for run in Corpus({0: target})._runs[0]}
    assert shared_runs(iter(pool), targets) == corpus._shared_runs & own_runs


def drawn_pool():
    rows, targets = prompts_of("list", 60, 1)
    return as_dataset([{"prompt": prompt, "completion": "ok"} for prompt in rows + FILLERS]), targets


def test_wording_of_the_whole_pool_counts_where_a_part_of_it_is_screened():
    template = "Please translate the word {} into French for me, and add no explanation of any kind."
    pool = as_dataset([{"prompt": template.format(word)} for word in WORDS[:30]] + [{"prompt": FILLERS[0]}])
    target = template.format("violin")
    drawn = np.array([3, 30])
    part, nearest = pool.select(drawn), np.zeros((1, 1), dtype=int)
    reading = read_dataset(part)
    # Two texts do not show whether the word is what a template is filled with, or a small change.
    assert len(screen(part, [0], nearest, reading, [target]).copies) == 1
    larger_pool = LargerPool(drawn, pool_wording(pool, as_dataset([target])))
    assert screen(part, [0], nearest, larger_pool.complete(reading), [target]).copies == ()


def test_copies_have_the_row_numbers_of_the_pool_that_rows_were_drawn_from():
    pool, _ = drawn_pool()
    drawn = np.array([7, 9, 70])
    target = pool[9]["prompt"]
    reading = LargerPool(drawn, pool_wording(pool, as_dataset([target]))).complete(read_dataset(pool.select(drawn)))
    found = screen(pool.select(drawn), [2, 1], np.zeros((1, 1), dtype=int), reading, [target])
    assert [(copy.row, copy.rank) for copy in found.copies] == [(9, 1)]
    assert found.contaminated_rows == [9]
    assert reading.subset(np.array([1])).row_number(0) == 9


#: Of words that the tiny tokenizer knows.
ROUND_TEMPLATE = "of and to the a and of to a the row{} of to and the a of a to of the and to"


def rounds_said(tmp_path, target, **options):
    """Texts of the warnings about copies in three rounds; a fifth of the pool has the same template."""
    rows = [
        ROUND_TEMPLATE.format(i) if i % 5 == 3 else f"row{i} row{i + 1} row{i + 2} row{i + 3} the a" for i in range(40)
    ]
    dataset = tiny.pool().add_column("prompt", rows)
    trainer = tiny.trainer(tmp_path, dataset=dataset, base=Trainer, num_train_epochs=3)
    selector = Selector(HiddenStates(trainer.model, tokenizer=tiny.tokenizer(), layer=1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attach(trainer, selector, targets=[target], examples_per_round=2, seed=0, **options).train()
    return [str(one.message) for one in caught if "among the picks" in str(one.message)]


def test_rounds_with_candidates_count_the_wording_of_the_whole_pool(tmp_path, monkeypatch):
    target = ROUND_TEMPLATE.format(90)
    assert rounds_said(tmp_path, target, candidates_per_round=3) == []
    monkeypatch.setattr(rounds, "pool_wording", lambda *_: frozenset())
    assert rounds_said(tmp_path, target, candidates_per_round=3)  # the drawn rows alone do not show the template


def test_rounds_name_copies_by_the_row_numbers_of_the_pool(tmp_path):
    said = rounds_said(tmp_path, ROUND_TEMPLATE.format(33), candidates_per_round=39)
    assert said
    assert all("exclude=[33]" in text for text in said)


def calling(number, content=""):
    call = {"type": "function", "function": {"name": f"f{number}", "arguments": {"x": str(number)}}}
    question = {"role": "user", "content": "Do the next step please."}
    return {"messages": [question, {"role": "assistant", "content": content, "tool_calls": [call]}]}


@pytest.mark.parametrize(
    ("rows", "num_duplicates"),
    [
        ([calling(0), calling(1)], 0),
        ([calling(0), calling(0)], 1),
        ([calling(0, "Yes"), calling(0)], 0),
        ([{**calling(0), "tools": [{"name": "f0"}]}, {**calling(0), "tools": [{"name": "f1"}]}], 0),
        ([{**calling(0), "tools": [{"name": "f0"}]}, {**calling(0), "tools": '[{"name": "f0"}]'}], 1),
        ([{"prompt": [{"role": "user", "content": [{"type": "text", "text": t}]}], "completion": []} for t in "ab"], 0),
    ],
)
def test_what_people_read_is_compared(rows, num_duplicates):
    dataset = as_dataset(rows)
    found = screen(dataset, [0, 1], np.zeros((1, 1), dtype=int), read_dataset(dataset), ["Which thing?"])
    assert [one.how for one in found.duplicates].count("exact") == num_duplicates


def test_plain_text_has_calls_and_thoughts():
    assert plain_text(calling(3, "Done:"))[1] == 'Done:\nf3({"x": "3"})'
    assert plain_text(calling(3, "Done:"), content_only=True)[1] == "Done:"
    thought = {"role": "assistant", "content": "Four.", "reasoning_content": "2 + 2"}
    assert plain_text({"messages": [{"role": "user", "content": "?"}, thought]})[1] == "2 + 2\nFour."
    legacy = {"role": "assistant", "content": "", "function_call": {"name": "add", "arguments": '{"a": 1}'}}
    assert plain_text({"prompt": [{"role": "user", "content": "?"}, legacy]})[0] == 'user: ?\nassistant: add({"a": 1})'
