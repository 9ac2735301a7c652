"""`Embedder`, the base class of every source of features, and the types it returns."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from itl_hf.text import Row

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from itl_hf.gp.standardization import Standardization

Fingerprint = dict[str, str | int | float | bool | None]


def identifying(fingerprint: Fingerprint) -> Fingerprint:
    """Returns the entries that distinguish one embedding job from another.

    Where the weights of a model are hashed, its name and revision are left out: they are kept for people to read, and a
    model's folder may be moved or copied without changing the features.

    Example:
        >>> identifying({"model": "a/folder", "weights": "3f2c", "layer": 3})
        {'weights': '3f2c', 'layer': 3}
    """

    def is_name(key: str) -> bool:
        prefix, dot, last = key.rpartition(".")  # parts of a combined embedder have a prefix
        return last in ("model", "revision") and f"{prefix}{dot}weights" in fingerprint

    return {key: value for key, value in fingerprint.items() if not is_name(key)}


@dataclass(frozen=True)
class Embedded:
    """Feature rows, and numbers that belong to each row.

    Args:
        features (`Tensor`):
            Shape (B, d), float32, on the CPU.
        columns (`dict[str, Tensor]`, *optional*):
            One number for each row, shape (B,), by name: `tokens` (int64), `norm` (float32, before any normalisation),
            `loss` (float32, NaN where a row has no labels).
    """

    features: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)


class Embedder(ABC):
    """Base class of everything that turns rows of text into feature rows.

    To use features of your own, subclass it and define `dimension`, `fingerprint()` and `embed()`. All other members
    have defaults. An embedder whose tokenization can run ahead of its model, in a second thread, also defines `prepare`
    and `embed_prepared` and sets `prepares_ahead`.

    Attributes:
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Tokenizer of a language model. It counts the tokens of each row for a `token_budget`.
        batch_tokens (`int`, defaults to 8192):
            Most tokens in a batch. Estimates of time use it, where `token_counts` returns counts.
        storage_dtype (`str`, defaults to `"float32"`):
            `"float32"` or `"float16"`: the type that features are stored in.
        preparation (`bool`, `str` or `Standardization`, defaults to `True`):
            What `Selector(..., standardize=True)` does to the features; see `Standardization`.
        prepares_ahead (`bool`, defaults to `False`):
            Whether `prepare` may run in a second thread while `embed_prepared` runs.
        default_cache (`bool`, *optional*):
            Whether `Selector` without `store=` may keep the features on disk. Left at `None`, it does so for the
            embedders of this package, and for classes of yours whose attributes are plain numbers and texts. Set it to
            `True` only if `fingerprint()` changes with everything that determines the features, such as the weights.

    Example:
        >>> import torch
        >>> class TextLength(Embedder):
        ...     dimension = 1
        ...     def fingerprint(self): return {"embedder": "text length"}
        ...     def embed(self, rows, *, first_row=0, on_rows=None):
        ...         return torch.tensor([[float(len(row["text"]))] for row in rows])
        >>> TextLength().embed([{"text": "four"}])
        tensor([[4.]])
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    batch_tokens: int = 8192
    storage_dtype: str = "float32"
    preparation: bool | str | Standardization = True
    prepares_ahead: bool = False
    default_cache: bool | None = None

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of columns of a feature row. A subclass defines it as a property or as an attribute of the class."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Returns everything that determines a row's features except the row itself, as JSON scalars."""

    @abstractmethod
    def embed(
        self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None
    ) -> Tensor | Embedded:
        """Computes the features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are embedded; drives the progress bar.

        Returns:
            `Tensor` or `Embedded`: Shape (len(rows), dimension), float32, on the CPU.
        """

    def compute_device(self) -> str:
        """Returns the name of the device that computes the features and where `Selector` selects; "cpu" by default."""
        return "cpu"

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:  # noqa: B027  # checking is optional
        """Raises `ValueError` for rows that cannot be embedded, without running a model. The default checks nothing."""

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> Any:
        """Does for `rows` what needs no model, such as tokenization. The default keeps the rows as they are.

        Args:
            rows (`Sequence[Row]`):
                As for `embed`.
            first_row (`int`, *optional*, defaults to 0):
                As for `embed`.

        Returns:
            The argument of `embed_prepared`.
        """
        return rows, first_row

    def embed_prepared(self, prepared_rows: Any, *, on_rows: Callable[[int], None] | None = None) -> Tensor | Embedded:
        """Computes the features from what `prepare` returned. The default calls `embed`.

        Args:
            prepared_rows:
                The result of `prepare`.
            on_rows (`Callable[[int], None]`, *optional*):
                As for `embed`.

        Returns:
            `Tensor` or `Embedded`: As `embed` returns.
        """
        rows, first_row = prepared_rows
        return self.embed(rows, first_row=first_row, on_rows=on_rows)

    def report_truncation(self) -> None:  # noqa: B027  # not every embedder cuts rows
        """Warns about the rows that were cut since the last call. The default cuts no rows and warns about none."""

    def token_counts(self, rows: Sequence[Row]) -> list[int] | None:
        """Returns the number of tokens that the model reads of each row. The default, `None`: it is unknown."""
        return None

    def for_targets(self, targets: Sequence[Row]) -> Embedder:
        """Returns the embedder to use for both pool and targets, given the targets. The default is this one."""
        return self


class TwoStageEmbedder(Embedder):
    """Base class of embedders that tokenize rows first (`prepare`) and then run a model (`embed_prepared`).

    While the model runs, the next rows are tokenized in a second thread. `prepare` adds the rows that it cuts to
    `_truncated_rows`, and `_truncation_message` says which limit they exceed.
    """

    prepares_ahead = True
    _truncated_rows: Sequence[int] = ()

    @abstractmethod
    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> Any:
        """Tokenizes `rows`; see `Embedder.prepare`.

        Raises:
            `ValueError`: If a row has no text, or not the part of it that is embedded.
        """

    @abstractmethod
    def embed_prepared(self, prepared_rows: Any, *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """Runs the model on what `prepare` returned, and returns features with columns such as `tokens`."""

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Computes the features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are embedded. A caller that passes it also calls `report_truncation`
                at the end; without it, rows that were cut are reported at once.

        Returns:
            `Tensor`: Shape (len(rows), dimension), float32, on the CPU.

        Raises:
            `ValueError`: If a row has no text, or not the part of it that is embedded.
        """
        features = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows).features
        if on_rows is None:
            self.report_truncation()
        return features

    def report_truncation(self) -> None:
        """Warns once about all rows that were cut since the last report."""
        for message in self._truncation_messages():
            warnings.warn(message, stacklevel=3)

    def _truncation_messages(self) -> list[str]:
        """Returns the warnings about the rows since the last call, and clears the list of these rows."""
        rows, self._truncated_rows = self._truncated_rows, []
        return [self._truncation_message(rows)] if rows else []

    def _truncation_message(self, rows: Sequence[int]) -> str:
        """Returns the warning about rows that were cut, given their numbers."""
        raise NotImplementedError


def check_embedder(embedder: object, argument: str = "embedder") -> None:
    """Raises a `TypeError` that says what to do if `embedder` is not an instance of `Embedder`.

    Args:
        embedder (`object`):
            What a user passed.
        argument (`str`, *optional*, defaults to `"embedder"`):
            Name of the argument, for the message.

    Example:
        >>> check_embedder("HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        TypeError: embedder must be an itl_hf.Embedder such as HiddenStates(model), got str. For features ...
    """
    if isinstance(embedder, type) and issubclass(embedder, Embedder):
        raise TypeError(f"{argument} is the class {embedder.__name__}: pass an instance, {embedder.__name__}(...).")
    if not isinstance(embedder, Embedder):
        raise TypeError(
            f"{argument} must be an itl_hf.Embedder such as HiddenStates(model), got {type(embedder).__name__}. For "
            "features of your own, subclass itl_hf.Embedder and define dimension, fingerprint() and embed()."
        )
