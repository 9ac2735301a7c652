"""Reads rows of text: their columns, their token ids, and the position where the prompt ends.

Only this package handles column names, chat templates and truncation, so that selection and training read a row in the
same way. Formats and calls of templates follow TRL's `SFTTrainer` (`prompt` + `completion`, `messages`, `text`), with
one addition: with `span="prompt"` the completion is not read at all. A prompt then gives the same tokens whether or not
its row has a completion, which makes targets without completions comparable with a pool that has them. Not covered:
images, preference pairs.
"""

from itl_hf.text.content import plain_text
from itl_hf.text.rows import TEXT_COLUMNS, Row, RowFormat, as_dataset, row_format
from itl_hf.text.targets import as_targets
from itl_hf.text.text_rows import TextRows
from itl_hf.text.tokens import SPANS, RowTokenizer, Span, Tokens, checked_span, training_features

__all__ = [
    "SPANS",
    "TEXT_COLUMNS",
    "Row",
    "RowFormat",
    "RowTokenizer",
    "Span",
    "TextRows",
    "Tokens",
    "as_dataset",
    "as_targets",
    "checked_span",
    "plain_text",
    "row_format",
    "training_features",
]
