"""A chat template that shows everything of a conversation, and an embedder that reads its tokens."""

from __future__ import annotations

import torch

from itl_hf import Embedder
from itl_hf.text import RowTokenizer

TOOL_TEMPLATE = (
    "{% for tool in tools or [] %}<tool>{{ tool | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for call in m['tool_calls'] or [] %}<call>{{ call | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TokenCounts(Embedder):
    """Counts the token ids of a prompt, modulo 32, and adds one number that orders matter to."""

    dimension = 33

    def __init__(self, tokenizer, **options):
        self.tokenizer = tokenizer
        self._row_tokenizer = RowTokenizer(tokenizer, **{"span": "prompt", **options})

    def fingerprint(self):
        return {"embedder": "token counts"}

    def check(self, rows, first_row=0):
        self._row_tokenizer.check(rows, first_row)

    def embed(self, rows, *, first_row=0, on_rows=None):
        features = torch.zeros(len(rows), self.dimension)
        for place, tokens in enumerate(self._row_tokenizer(rows, first_row)):
            for position, token in enumerate(tokens.input_ids):
                features[place, token % 32] += 1
                features[place, 32] += (token * 31 + position) % 101
        return features
