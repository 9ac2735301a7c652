"""Rows of text -> token ids, with the place where the prompt ends.

The one room that knows column names, chat templates and truncation, so that selection and training read a row the same
way. Formats and template calls follow TRL's `SFTTrainer` (`prompt` + `completion`, `messages`, `text`), with one
addition: with `span="prompt"` the completion is not looked at at all. A prompt then gives the same tokens whether or
not its row has a completion, which is what makes unlabelled targets comparable with a labelled pool. Not covered:
images, preference pairs.
"""

from itl_hf.text.content import plain_text
from itl_hf.text.rows import TEXT_COLUMNS, Row, RowFormat, as_dataset, row_format
from itl_hf.text.targets import as_targets
from itl_hf.text.tokens import SPANS, RowTokenizer, Span, Tokens, checked_span, training_features

__all__ = [
    "SPANS",
    "TEXT_COLUMNS",
    "Row",
    "RowFormat",
    "RowTokenizer",
    "Span",
    "Tokens",
    "as_dataset",
    "as_targets",
    "checked_span",
    "plain_text",
    "row_format",
    "training_features",
]
