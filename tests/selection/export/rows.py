"""Rows of many shapes, and selections of them without a model."""

from __future__ import annotations

import hashlib

import torch

from itl_hf import Embedder, Selector

CALL = {"type": "function", "function": {"name": "sum", "arguments": {"numbers": [1, 2], "round": None}}}
OTHER_CALL = {"type": "function", "function": {"name": "date", "arguments": '{"zone": "UTC"}'}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "sum",
            "description": "Adds numbers.",
            "parameters": {
                "type": "object",
                "properties": {"numbers": {"type": "array"}, "round": {"type": "integer"}},
            },
        },
    }
]


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


PAIRS = [{"prompt": f"{a} + 2 =", "completion": f" {a + 2}", "source": None if a % 2 else "sums"} for a in range(6)]
TEXTS = [{"text": f"The {word} is «blue» — 蓝."} for word in ("sky", "sea", "ship", "wall")]
CHATS = [
    {"messages": [turn("system", "Be short."), turn("user", "Hi?"), turn("assistant", "Hello.")]},
    {
        "messages": [
            turn("user", "2024-01-01"),
            turn("assistant", "A date."),
            turn("user", "So?"),
            turn("assistant", "-"),
        ]
    },
    {"messages": [turn("user", '\u2028 lines\nand "quotes"'), turn("assistant", "Yes \\ no")]},
]
TOOL_CHATS = [
    {
        "messages": [
            turn("user", "Add 1 and 2."),
            turn("assistant", "", tool_calls=[CALL]),
            turn("tool", "3"),
            turn("assistant", "It is 3."),
        ],
        "tools": TOOLS,
    },
    {
        "messages": [
            turn("user", "Two things?"),
            turn("assistant", "", tool_calls=[CALL, OTHER_CALL]),
            turn("tool", "3"),
            turn("tool", "noon"),
            turn("assistant", "3, noon."),
        ],
        "tools": TOOLS,
    },
    CHATS[0],
]
#: An answer within the prompt, which is not learned.
HISTORY = [
    {
        "prompt": [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Bye")],
        "completion": [turn("assistant", "See you")],
    },
    {"prompt": [turn("user", "Hi")], "completion": [turn("assistant", "Hello")]},
]


class Digests(Embedder):
    """A row's features are numbers that its text determines."""

    dimension = 3

    def fingerprint(self):
        return {"embedder": "digests"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        digests = [hashlib.sha256(str(row).encode("utf-8", "backslashreplace")).digest() for row in rows]
        return torch.tensor([list(digest[:3]) for digest in digests], dtype=torch.float32)


def select(pool, count=None, **options):
    """A selection of all rows, in the order of their gains."""
    targets = [{"prompt": "3 + 4 ="}, {"prompt": "Hi there"}]
    return Selector(Digests(), store=False, **options).select(pool, targets, len(pool) if count is None else count)


def messages_of(row):
    if "messages" in row:
        return row["messages"]
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str):
        return [turn("user", prompt), turn("assistant", completion)]
    return [*prompt, *completion]
