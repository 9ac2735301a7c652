"""The rows that every model is tried on, and a tokenizer for them."""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from itl_hf.text import Row
from recipes.model_page.shrinking import BOS, EOS, PAD, VOCABULARY

#: Tokens of the rows: a batch of them has much padding, and some of them are equally long.
LENGTHS = (13, 6, 9, 4, 6)
#: Words of the rows. Numbers below are those of special tokens and of images.
FIRST_WORD = 100
_SPECIAL = {BOS: "<s>", PAD: "<pad>", EOS: "</s>", 3: "<unk>"}


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of one token for each word."""
    words = {_SPECIAL.get(number, f"w{number}"): number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    make: Any = PreTrainedTokenizerFast
    result: PreTrainedTokenizerFast = make(tokenizer_object=tokenizer, **special)
    return result


def word_ids() -> list[list[int]]:
    """Returns the token ids of the rows."""
    generator = random.Random(0)
    return [[generator.randrange(FIRST_WORD, VOCABULARY) for _ in range(length)] for length in LENGTHS]


def word_rows() -> list[Row]:
    """Returns the rows."""
    return [{"text": " ".join(f"w{number}" for number in ids)} for ids in word_ids()]
