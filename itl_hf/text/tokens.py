"""Tokenizes rows, and determines where their prompts end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from itl_hf.text.alike import AlikeRows, current_collector
from itl_hf.text.content import Parts, format_of, read
from itl_hf.text.roles import roles_in_template
from itl_hf.text.rows import Row
from itl_hf.text.template_date import date_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = Literal["prompt", "completion", "whole"]
SPANS: tuple[str, ...] = get_args(Span)


@dataclass(frozen=True)
class Tokens:
    """One row as token ids.

    Args:
        input_ids (`list[int]`):
            Prompt and completion, without padding.
        prompt_length (`int`):
            Number of ids, from the start, that belong to the prompt.
        is_truncated (`bool`):
            Whether ids beyond `max_length` were cut from the end.
    """

    input_ids: list[int]
    prompt_length: int
    is_truncated: bool = False

    def span(self, span: Span) -> tuple[int, int]:
        """Returns the positions of a part as a half-open range (start, end); empty if the row has no such part."""
        ends = {"prompt": (0, self.prompt_length), "whole": (0, len(self.input_ids))}
        return ends.get(span, (self.prompt_length, len(self.input_ids)))


class RowTokenizer:
    """Converts rows to `Tokens`.

    Strings are used as they are; conversations are rendered with the tokenizer's chat template, the prompt with the
    generation prompt added. The last turn of `messages` is the completion if its role is `assistant`. The prompt ends
    where the tokens of the prompt and of prompt + completion begin to differ, as in TRL.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Any tokenizer of transformers. Its padding side and padding token do not matter.
        max_length (`int`, *optional*):
            Ids beyond are cut from the end. `None` never cuts.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"whole"`):
            `"prompt"` ignores completions: the ids are those of the prompt alone.

    Example:
        >>> rows = RowTokenizer(tokenizer, max_length=512)
        >>> tokens = rows([{"prompt": "2 + 2 =", "completion": " 4"}])[0]
        >>> tokenizer.decode(tokens.input_ids[: tokens.prompt_length])
        '2 + 2 ='
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None, span: Span = "whole"
    ) -> None:
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}.")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.span = checked_span(span)

    def __call__(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Tokenizes `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows of one of the formats of `row_format`; formats may be mixed.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.

        Raises:
            `ValueError`: If a row has no text or content that is not text; the message names row, column and remedy.
        """
        parts = [self._parts(row, number) for number, row in enumerate(rows, first_row)]
        prompts = self._encode([self._render(part, number) for number, part in enumerate(parts, first_row)])
        wholes = self._encode([self._render(part, n, True) for n, part in enumerate(parts, first_row)])
        return [
            self._tokens(*row) for row in zip(prompts, wholes, range(first_row, first_row + len(rows)), strict=True)
        ]

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises the errors of `__call__` for rows that cannot be read.

        Conversations are rendered with the chat template, and rows that may be longer than `max_length` are tokenized.
        Within `collect_alike_rows`, rows that the model reads alike are found on the way.
        """
        alike = current_collector()
        for number, row in enumerate(rows, first_row):
            parts = self._parts(row, number)
            texts = [self._render(parts, number), self._render(parts, number, True)]
            if alike is not None:
                self._collect(alike, number, parts, texts)

    def _collect(self, alike: AlikeRows, number: int, parts: Parts, texts: list[tuple[str, bool] | None]) -> None:
        """Adds a row to the collector. Strings are read as they are, so that only long ones can be alike."""
        text = texts[1] or texts[0]
        # A token is a byte at least, so that shorter texts are never cut.
        may_be_cut = self.max_length is not None and len(cast(tuple[str, bool], text)[0].encode()) >= self.max_length
        if not may_be_cut and isinstance(parts.prompt, str):
            return
        reading: Any = text
        is_cut = False
        if may_be_cut:
            (ids,) = self._encode([text])
            is_cut = len(cast(list[int], ids)) > cast(int, self.max_length)
            reading = cast(list[int], ids)[: self.max_length]
        alike.max_length = self.max_length
        alike.add(number, [parts.prompt, parts.completion, parts.template_kwargs], reading, is_cut)

    def _parts(self, row: Row, number: int) -> Parts:
        parts = read(row, number, self.span != "prompt", roles_in_template(self.tokenizer.chat_template))
        if not isinstance(parts.prompt, str) and not self.tokenizer.chat_template:
            raise ValueError(
                f"row {number}: column {parts.column!r} holds a conversation, but the tokenizer has no chat "
                "template. Use the tokenizer of an instruction-tuned model, set tokenizer.chat_template, or give "
                "prompts as strings."
            )
        if self.span == "completion" and parts.completion is None:
            raise ValueError(
                f"row {number} has no completion (format {format_of(row)!r}), but span='completion'. Drop such rows, "
                "or use span='prompt' or span='whole'."
            )
        return parts

    def _render(self, parts: Parts, number: int, whole: bool = False) -> tuple[str, bool] | None:
        """Returns the text to tokenize, and whether the tokenizer adds special tokens (templates contain theirs)."""
        if whole and parts.completion is None:
            return None
        if isinstance(parts.prompt, str):
            return parts.prompt + (cast(str, parts.completion) if whole else ""), True
        messages = parts.prompt + (cast(list[dict[str, Any]], parts.completion) if whole else [])
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not whole,
                **date_arguments(self.tokenizer, parts.template_kwargs.get("tools")),
                **parts.template_kwargs,
            )
        except Exception as error:  # templates raise errors of any type: jinja2's, TypeError, KeyError
            raise ValueError(
                f"row {number}: the tokenizer's chat template refused the conversation with roles "
                f"{[message.get('role') for message in messages]}: {error}"
            ) from error
        return cast(str, text), False

    def _encode(self, texts: Sequence[tuple[str, bool] | None]) -> list[list[int] | None]:
        ids: list[list[int] | None] = [None] * len(texts)
        for special in (True, False):
            group = [(i, item[0]) for i, item in enumerate(texts) if item is not None and item[1] is special]
            if not group:
                continue
            # verbose=False: the tokenizer's own length warning comes before rows are cut and would be misleading.
            batch = self.tokenizer(
                [text for _, text in group],
                add_special_tokens=special,
                padding=False,
                truncation=False,
                return_attention_mask=False,
                verbose=False,
            )
            for (i, _), row_ids in zip(group, batch["input_ids"], strict=True):
                ids[i] = row_ids
        return ids

    def _tokens(self, prompt: list[int] | None, whole: list[int] | None, number: int) -> Tokens:
        if not prompt:
            raise ValueError(
                f"row {number}: the tokenizer makes no tokens of its prompt. Drop the row or give it text."
            )
        ids = prompt if whole is None else whole
        length = len(prompt) if whole is None else _common_prefix(prompt, whole)
        input_ids = ids[: self.max_length]
        tokens = Tokens(input_ids, min(length, len(input_ids)), is_truncated=len(input_ids) < len(ids))
        if self.span == "completion" and tokens.prompt_length == len(input_ids):
            raise ValueError(
                f"row {number}: nothing of its completion is left: the prompt alone has {len(prompt)} tokens and "
                f"max_length={self.max_length}. Raise max_length or drop the row."
            )
        return tokens


def checked_span(span: str) -> Span:
    """Returns `span`, or raises a `ValueError` that lists the accepted ones."""
    if span not in SPANS:
        raise ValueError(f"span must be one of {SPANS}, got {span!r}.")
    return cast(Span, span)


def training_features(tokens: Tokens, completion_only: bool = True) -> dict[str, list[int]]:
    """Returns what a causal language model trains on: `input_ids`, `attention_mask`, `labels`, each of equal length.

    Args:
        tokens (`Tokens`):
            A row tokenized with `span="whole"`.
        completion_only (`bool`, *optional*, defaults to `True`):
            Whether prompt positions get the label -100, which the loss ignores.

    Example:
        >>> training_features(Tokens([5, 6, 7], prompt_length=2))["labels"]
        [-100, -100, 7]
    """
    num_masked = tokens.prompt_length if completion_only else 0
    return {
        "input_ids": list(tokens.input_ids),
        "attention_mask": [1] * len(tokens.input_ids),
        "labels": [-100] * num_masked + list(tokens.input_ids[num_masked:]),
    }


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    shared = min(len(first), len(second))
    return next((i for i in range(shared) if first[i] != second[i]), shared)
