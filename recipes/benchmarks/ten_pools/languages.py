"""The pool of other languages: prompts in twelve languages, targets in English on the same topics.

The package `chatterbot-corpus` (BSD) has the same topics in many languages, under names that differ. Rows whose topic
has no English counterpart stay in the pool under their own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from datasets import Dataset

from recipes.benchmarks.ten_pools.pool import Part, Pool, split_halves
from recipes.benchmarks.ten_pools.rows import Row, chat_row, distinct, package_folder

#: Languages with at least a hundred prompts.
LANGUAGES = (
    "bengali",
    "chinese",
    "dutch",
    "indonesian",
    "italian",
    "japanese",
    "korean",
    "persian",
    "portuguese",
    "spanish",
    "traditionalchinese",
    "ukrainian",
)
#: English names of topics that have another name in some language.
TOPICS = {
    "IA": "ai",
    "computer": "computers",
    "coversations": "conversations",
    "dinero": "money",
    "emociones": "emotion",
    "emotions": "emotion",
    "history_brasil": "history",
    "perfilbot": "botprofile",
    "profile": "botprofile",
    "psicologia": "psychology",
    "sport": "sports",
}
#: Topics with enough different English prompts for eleven targets and eight held-out rows.
TARGET_TOPICS = ("ai", "conversations", "emotion", "literature", "movies", "psychology", "science", "sports", "trivia")
MAX_PROMPT, MAX_COMPLETION = 320, 240


def language_pool() -> Pool:
    """Returns the pool of twelve languages, with English targets of nine topics.

    Raises:
        `FileNotFoundError`: If the package is missing. The message says what to install.
    """
    data = package_folder("chatterbot_corpus", "chatterbot-corpus==1.3.3") / "data"
    rows = distinct(row for language in LANGUAGES for row in _rows(data / language))
    prompts = {row["prompt"] for row in rows}
    english = [row for row in distinct(_rows(data / "english")) if row["task"] in TARGET_TOPICS]
    return Pool(
        "languages",
        [Part("languages/pool", Dataset.from_list(rows))],
        Part("languages/bank", Dataset.from_list([row for row in english if row["prompt"] not in prompts])),
        split_halves("languages", TARGET_TOPICS),
    )


def _rows(folder: Path) -> Iterator[Row]:
    """Yields the first two turns of every conversation in a language."""
    for path in sorted(folder.glob("*.yml")):
        topic = TOPICS.get(path.stem, path.stem)
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            question, answer = (str(turn).strip() for turn in [*turns, "", ""][:2])
            if 0 < len(question) <= MAX_PROMPT and 0 < len(answer) <= MAX_COMPLETION:
                yield chat_row(question, answer, topic)
