"""Excerpts are one line, short, and differ where the texts of a list differ."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itl_hf.text.excerpts import MIN_SHARED_CHARACTERS, excerpt, excerpts, one_line, shared_openings

TEMPLATE = "Solve the following problem.\n\nProvide your answer as a list with a space after the comma. Reverse: {}"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("a\n b", "a b"),
        ("", ""),
        ("word " * 30, "word … word word"),
        ("x" * 60, "xxxxxx … xxxxxxxxxxx"),
        ("x" * 5_000, "xxxxxx … xxxxxxxxxxx"),
        ("one two three four five six seven", "one … six seven"),
    ],
)
def test_a_text_is_cut_in_the_middle_between_words(text, short):
    assert excerpt(text, 20) == short


@given(st.text(max_size=300), st.integers(9, 80))
def test_an_excerpt_is_one_line_of_at_most_its_length(text, length):
    short = excerpt(text, length)
    assert len(short) <= length
    assert short == one_line(short)
    if len(one_line(text)) <= length:
        assert short == one_line(text)


def test_a_repeated_opening_is_shortened_and_what_differs_is_kept():
    words = ["apple, river, stone", "me, by, stomach, the", "works, efforts, the, of"]
    lines = excerpts([TEMPLATE.format(word) for word in words], 80)
    assert lines == [f"Solve the following … the comma. Reverse: {word}" for word in words]
    # A text of its own keeps its opening.
    other = "What is the name of the longest river of the country that lies farthest in the south?"
    assert excerpts([*(TEMPLATE.format(word) for word in words), other], 100)[-1] == other


def test_a_repeated_ending_is_shortened_and_what_differs_before_it_is_kept():
    question = "Simplify {}/7 to its lowest terms. Give only the simplified fraction as your answer."
    texts = [question.format(number) for number in (3, 4, 5)]
    assert excerpts(texts, 80)[0] == "Simplify 3/7 to its lowest terms. … fraction as your answer."
    assert excerpts(texts, 40)[1] == "Simplify 4/7 …"
    words = ("apple", "river", "sun")
    both = [TEMPLATE.format(f"{word}. Give only the reversed list and nothing else, please.") for word in words]
    assert all(word in line for word, line in zip(words, excerpts(both, 60), strict=True))


def test_a_pair_of_near_copies_keeps_what_differs_from_the_others():
    texts = [TEMPLATE.format(word) for word in ("apple river", "apple stone", "lamp paper", "music green")]
    assert [line.rpartition(": ")[2] for line in excerpts(texts)] == [
        "apple river",
        "apple stone",
        "lamp paper",
        "music green",
    ]


def num_shared(one, other):
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


@given(st.lists(st.text(alphabet="ab \n", max_size=12), max_size=8))
def test_openings_are_those_of_every_triple(texts):
    lines = [one_line(text) for text in texts]
    for number, (line, opening) in enumerate(zip(lines, shared_openings(texts), strict=True)):
        others = lines[:number] + lines[number + 1 :]
        shared = sorted((num_shared(line, other) for other in others), reverse=True)
        enough = shared[1:2] if len(texts) > 2 else shared[:1]
        assert opening == (line.rfind(" ", 0, enough[0]) + 1 if enough else 0)


@given(
    st.lists(st.text(alphabet="ab c", max_size=12), min_size=3, max_size=6),
    st.sampled_from(["", "a repeated opening that is long enough: "]),
    st.sampled_from(["", " and an ending that all of the texts share"]),
    st.integers(9, 60),
)
def test_excerpts_with_shared_parts_keep_their_length(texts, opening, ending, length):
    whole = [f"{opening}{text}{ending}" for text in texts]
    for text, line in zip(whole, excerpts(whole, length), strict=True):
        assert len(line) <= length
        assert line == one_line(line)
        if len(one_line(text)) <= min(length, MIN_SHARED_CHARACTERS):
            assert line == one_line(text)


def test_a_line_is_cut_once():
    lines = excerpts([TEMPLATE.format(f"{word} " * 20) for word in ("apple", "river", "stone")], 50)
    assert [line.count("…") for line in lines] == [1, 1, 1]
    assert lines[0] == "Solve the … apple apple apple apple apple"


def test_short_texts_stay_whole_although_they_begin_alike():
    texts = [f"Target {number}: sums?" for number in range(5)]
    assert excerpts(texts) == texts
    assert max(shared_openings(texts)) < MIN_SHARED_CHARACTERS
