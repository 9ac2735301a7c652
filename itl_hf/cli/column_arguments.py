"""The options that say which column of pool and targets holds what, the same for `select` and `train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itl_hf.cli.option import option

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.text import ColumnMapping


@dataclass
class ColumnArguments:
    """Which columns are read, where a format is not recognised."""

    columns: str | None = option(
        None,
        "Which column holds what, where a format is not recognised: prompt=question completion=answer system=...",
        metavar="PART=COLUMN ...",
    )
    prompt_template: str | None = option(None, "A prompt of several columns: '{instruction}\\n{input}'.")
    targets_columns: str | None = option(
        None, "The same as --columns for targets with other columns.", metavar="PART=COLUMN ..."
    )

    @property
    def mapping(self) -> ColumnMapping | None:
        """`columns` and `prompt_template` as they are applied to the pool.

        Raises:
            `ValueError`: If a word is not of the form `part=column`, or a part is unknown.
        """
        from itl_hf.text import ColumnMapping

        template = None if self.prompt_template is None else self.prompt_template.replace("\\n", "\n")
        return ColumnMapping.of(self.columns, template)

    def column_arguments(self) -> dict[str, Any]:
        """Returns what `Selector` takes of these options."""
        mapping = self.mapping
        template = None if mapping is None else mapping.prompt_template
        return {"columns": self.columns, "prompt_template": template, "targets_columns": self.targets_columns}

    def formats(self, pool: Dataset, targets: Dataset) -> str:
        """Returns one line that says how pool and targets are read.

        Raises:
            `ValueError`: If no format fits the columns.
        """
        from itl_hf.text import ColumnMapping, TextRows

        target_mapping = ColumnMapping.of(self.targets_columns) or self.mapping
        pool_format = TextRows(pool, self.mapping, "pool").format
        return f"pool read as {pool_format}, targets as {TextRows(targets, target_mapping, 'targets').format}"


def join_words(arguments: list[str]) -> list[str]:
    """Joins the words after `--columns` into one: `--columns a=b c=d` is `--columns "a=b c=d"`.

    Example:
        >>> join_words(["--columns", "prompt=q", "completion=a", "--seed", "1"])
        ['--columns', 'prompt=q completion=a', '--seed', '1']
    """
    words: list[str] = []
    takes_words = False
    for word in arguments:
        if takes_words and not words[-1].startswith("--") and "=" in word and not word.startswith("-"):
            words[-1] += f" {word}"
        else:
            takes_words = word.replace("-", "_") in ("__columns", "__targets_columns") or (
                takes_words and words[-1].startswith("--")
            )
            words.append(word)
    return words
