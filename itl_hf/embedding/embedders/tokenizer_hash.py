"""A hash of everything that determines the ids that a tokenizer makes of a text or of a conversation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from itl_hf.embedding.embedders.weights_hash import short_hash
from itl_hf.text.template_date import TEMPLATE_DATE, prints_date

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Its ids show settings that no attribute tells: case, accents, digits, white space, special tokens added or split.
_PROBE = " The  CAFÉ\tcafé №1234567\n\n naïve don't ﬁne 東京 🙂 <s> </s> [CLS] <|im_start|>user\u200b "
#: Settings that do not change ids, or that every call sets.
_IRRELEVANT = ("name_or_path", "path", "file", "padding", "truncation", "max_length", "model_max_length", "commit")


def tokenizer_entries(tokenizer: PreTrainedTokenizerBase) -> dict[str, str | None]:
    """Returns what determines the token ids of a row, as entries of a fingerprint: tokenizer, template and its date."""
    return {
        "tokenizer": tokenizer_hash(tokenizer),
        "chat_template": short_hash(str(tokenizer.chat_template)) if tokenizer.chat_template else None,
        "template_date": str(TEMPLATE_DATE) if prints_date(tokenizer) else None,
    }


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a hash of a tokenizer's vocabulary and rules, without padding and truncation.

    The special tokens are part of it, since chat templates print them.
    """
    facts: dict[str, Any] = {
        "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "split_special_tokens": getattr(tokenizer, "split_special_tokens", None),
        "probe": [
            tokenizer(_PROBE, add_special_tokens=special, verbose=False)["input_ids"] for special in (True, False)
        ],
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return short_hash(json.dumps(facts | _slow_facts(tokenizer), sort_keys=True, default=str))
    # Padding and truncation are those of the last call, not properties of the tokenizer.
    backend = type(backend).from_str(backend.to_str())
    backend.no_padding()
    backend.no_truncation()
    return short_hash(json.dumps(facts, sort_keys=True, default=str) + backend.to_str())


def _slow_facts(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Returns vocabulary, merges and settings of a tokenizer that is written in Python."""
    settings = {
        name: value
        for name, value in vars(tokenizer).items()
        if isinstance(value, bool | int | float | str) and not any(part in name for part in _IRRELEVANT)
    }
    merges = getattr(tokenizer, "bpe_ranks", None) or {}
    pieces = getattr(getattr(tokenizer, "sp_model", None), "serialized_model_proto", bytes)()
    return {
        "class": type(tokenizer).__name__,
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "added": sorted((number, repr(token)) for number, token in tokenizer.added_tokens_decoder.items()),
        "merges": sorted(map(str, merges.items())),
        "pieces": short_hash(pieces.hex()),
        "settings": settings,
    }
