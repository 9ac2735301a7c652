"""Random rows: conversations with tools, calls, nulls and any Unicode."""

from __future__ import annotations

from hypothesis import strategies as st

# Surrogates are no text, and U+0000 is refused by some tokenizers' templates: both have tests of their own.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda text: text.strip()
)
NAMES = st.sampled_from(["city", "a", "b", "Größe", "0"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXTS,
    st.sampled_from(["5", "null", "2020-01-01", '{"a": 1}', "NaN"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda part: st.lists(part, max_size=2) | st.dictionaries(NAMES, part, max_size=3), max_leaves=6
)
PARAMETERS = st.dictionaries(NAMES, VALUES, max_size=3)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": NAMES, "parameters": st.dictionaries(NAMES, VALUES, max_size=3)}
            ),
        }
    ),
    max_size=2,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function"), "function": st.fixed_dictionaries({"name": NAMES, "arguments": VALUES})}
    ),
    min_size=1,
    max_size=2,
)


ASSISTANT = st.sampled_from(["assistant", "gpt", "model"])


def conversations(assistant: st.SearchStrategy[str] = ASSISTANT) -> st.SearchStrategy:
    """A question, then an answer, a tool call with its result, or nothing."""
    question = TEXTS.map(lambda text: {"role": "user", "content": text})
    answer = st.builds(lambda role, text: {"role": role, "content": text}, assistant, TEXTS)
    call = st.builds(lambda role, calls: {"role": role, "content": "", "tool_calls": calls}, assistant, CALLS)
    result = TEXTS.map(lambda text: {"role": "tool", "content": text})
    return st.one_of(
        st.tuples(question), st.tuples(question, answer), st.tuples(question, call, result, answer)
    ).map(list)  # fmt: skip


ROWS = st.fixed_dictionaries(
    {"messages": conversations()}, optional={"tools": TOOLS, "metadata": VALUES, "id": SCALARS}
)
