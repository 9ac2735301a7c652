"""Per-example gradients as features: the empirical neural tangent kernel, one small vector for each row.

The inner product of two rows estimates that of their loss gradients with respect to the hooked weights: how far a step
on one lowers the loss of the other. Of the features that can be computed from one model, these predict best which data
teach a task; they cost about three forward passes, where hidden states cost one or less. Features of a row do not
depend on its batch, on padding or on `batch_tokens`, up to float rounding. Not covered: biases, norms, embeddings, the
language-model head, experts of a mixture, encoder-decoder models.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.embedders.batching import TokenBatches
from itl_hf.embedding.embedders.gradients.head import Head, checked_causal_model
from itl_hf.embedding.embedders.gradients.hooks import Capture, frozen
from itl_hf.embedding.embedders.gradients.labels import LabelKind, input_ids_of, label_count, labels_of, span_for
from itl_hf.embedding.embedders.gradients.layers import coverage, find_layers, warn_of_experts
from itl_hf.embedding.embedders.gradients.probe import hidden_states, usable_layers
from itl_hf.embedding.embedders.gradients.sketch import VERSION, KroneckerSketch, unit_length
from itl_hf.embedding.embedders.language_model import LanguageModelEmbedder
from itl_hf.embedding.embedders.model_loading import load_model
from itl_hf.embedding.embedders.option_checks import check_loading
from itl_hf.embedding.embedders.weights_hash import WeightsHash, short_hash
from itl_hf.text import Row, Tokens, plain_text

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedders.base import Fingerprint
    from itl_hf.embedding.embedders.gradients.adam import AdamPreconditioner

logger = logging.getLogger(__name__)
#: Multiplies gradients on their way back in float16, whose smallest number is 6e-8.
_HALF_SCALE = 1024.0


class Gradients(LanguageModelEmbedder):
    """Sketched gradients of each row's own mean loss with respect to a language model's linear layers.

    `labels` selects the tokens that the loss is taken on:

    - `"completion"`: those of the completion, each predicted from what comes before it, as in a step of fine-tuning on
      that row.
    - `"whole"`: every token but the first, for rows of plain text.
    - `"predicted"`: no label is needed. The row's completion is not read; at every position of the prompt, from the
      first to the last, the label is the token that the model itself finds most likely next. With a conversation the
      prompt includes the template's opening of the answer, and with the last position the answer's first token.

    Use the same kind of labels for pool and targets. For targets without completions use `labels="predicted"` for the
    pool as well: the nearest row is then one of the same task as often as with completions on both sides (.76 and .73
    of 84 texts of SmolLM2-135M). A pool with completions against targets with predicted labels,
    `pool.with_labels("predicted")`, shares a sketch, and the inner products are those of the gradients, but the
    gradients hardly agree: the two rows of one prompt have a cosine of -.08, and the nearest row is of the same task
    for .06 (recipes/benchmarks/gradients.py, part `labels`).

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            A Hub id, a folder, or a causal language model (with or without a PEFT adapter). An object is used as it is;
            what is changed during a pass (`requires_grad`, training mode, hooks) is restored. Gradient checkpointing is
            used if it is enabled in the model.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        modules (`"all"` or `list[str]`, *optional*, defaults to `"all"`):
            Which linear layers; with a trained LoRA adapter `"all"` means the adapter's. Names are compared from their
            end: `["v_proj", "down_proj"]` saves about a sixth of the time and keeps most of the geometry.
        dimension (`int`, *optional*, defaults to 8192):
            Number of columns of a feature row. The noise of a cosine is about 1 / sqrt(dimension).
        rank (`int`, *optional*, defaults to 256):
            Highest dimension that the output side of a layer is projected to; the input side gets a quarter of it.
        labels (`"completion"`, `"whole"` or `"predicted"`, *optional*, defaults to `"completion"`):
            See above. Rows without a label get a zero vector and the loss NaN, are counted in one warning, and are
            never picked.
        max_length (`int`, *optional*):
            Tokens beyond are cut from the end. Defaults to the model's context, at most 2048.
        batch_tokens (`int`, *optional*, defaults to 4096):
            Most tokens in a batch, padding included. Halved where memory runs out; the features stay the same.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"bfloat16"` or `"float16"`, for a model loaded here. Sums are in float32.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU; for a model object, to where it is.
        normalize (`bool`, *optional*, defaults to `True`):
            Whether rows are scaled to unit length: gradients of long or hard rows would dominate otherwise. The length
            before scaling is in the column `norm`. A gradient that vanishes (below 1e-31 in float32, where no digit is
            left) becomes a zero vector.
        seed (`int`, *optional*, defaults to 0):
            Seed of the random projections. Only features of the same seed can be compared.
        adam (`AdamPreconditioner`, *optional*):
            Rescales gradients as Adam does (LESS).
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.

    Raises:
        `ValueError`: If an argument is out of range, or the model has no layer of a name in `modules`.
        `TypeError`: If the model is not a causal language model.

    Example:
        >>> embedder = Gradients(model)  # such as "HuggingFaceTB/SmolLM2-135M-Instruct"
        >>> embedded = embedder.embed([{"prompt": "2 + 2 =", "completion": " 4"}])
        >>> embedded.features.shape, embedded.columns["loss"].shape
        (torch.Size([1, 8192]), torch.Size([1]))
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel | nn.Module,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        modules: Literal["all"] | Sequence[str] = "all",
        dimension: int = 8192,
        rank: int = 256,
        labels: LabelKind = "completion",
        max_length: int | None = None,
        batch_tokens: int = 4096,
        dtype: str = "float32",
        device: str | torch.device | None = None,
        normalize: bool = True,
        seed: int = 0,
        adam: AdamPreconditioner | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        span = span_for(labels)
        check_loading(dtype=dtype, device=device, max_length=max_length)
        batches, sketch = TokenBatches(batch_tokens), KroneckerSketch(dimension, rank, seed)
        hub_options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        causal_model = checked_causal_model(load_model(model, head=True, dtype=dtype, device=device, **hub_options))
        self._head = Head(causal_model)
        self.layers = usable_layers(
            causal_model, self._head, find_layers(causal_model, modules), are_named=not isinstance(modules, str)
        )
        self.sketch = sketch
        self.normalize = normalize
        # Rounding rows of unit length to float16 costs less than the sketch's own noise.
        self.storage_dtype = "float16" if normalize else "float32"
        self.adam = adam
        for layer in self.layers if adam is not None else ():
            adam.rescaling(layer)  # type: ignore[union-attr]  # raises now if the state of a layer is missing
        self._capture = Capture(causal_model, self.layers, self.sketch, adam)
        self._weights_hash = WeightsHash(causal_model)
        super().__init__(
            causal_model, tokenizer=tokenizer, span=span, max_length=max_length, batches=batches, **hub_options
        )
        self._reset_labels(labels)
        if isinstance(modules, str):
            warn_of_experts(causal_model)

    def _reset_labels(self, labels: LabelKind) -> None:
        self.labels: LabelKind = labels
        self._rows_without_label: list[int] = []
        self._any_label = False

    def with_labels(self, labels: LabelKind) -> Gradients:
        """Returns the same embedder (model, layers, sketch) with the loss on other tokens; features are comparable."""
        other = copy.copy(self)
        other._set_span(span_for(labels))
        other._reset_labels(labels)
        return other

    def for_targets(self, targets: Sequence[Row]) -> Gradients:
        """Returns this embedder, or one with predicted labels if no target has a completion.

        It is used for pool and targets alike: gradients on completions and gradients on predicted labels hardly agree;
        see the class's text.

        Raises:
            `ValueError`: If labels are completions and some targets have one and others not; the row is named.
        """
        if self.labels != "completion":
            return self
        has_completion = [bool(plain_text(row)[1]) for row in targets]
        if all(has_completion):
            return self
        if any(has_completion):
            raise ValueError(
                f"targets: row {has_completion.index(False)} has no completion and row {has_completion.index(True)} "
                "has one; a target without a completion has no gradient and would count for nothing. Give all targets "
                "completions, or leave such rows out; Gradients(labels='predicted') needs none."
            )
        logger.warning(
            "The targets have no completions: gradients of pool and targets are taken on the labels that the model "
            "predicts for their prompts."
        )
        return self.with_labels("predicted")

    @property
    def dimension(self) -> int:
        """Number of columns of a feature row."""
        return self.sketch.dimension

    def coverage(self) -> float:
        """Returns the share of the model's parameters whose gradients the features hold."""
        return coverage(self.model, self.layers)

    def fingerprint(self) -> Fingerprint:
        """Returns everything that determines the features of a row. Computed anew: the model may be in training."""
        names = [layer.name for layer in self.layers]
        return {
            "embedder": "gradients",
            "weights": self._weights_hash(),
            "layers": f"{len(names)} layers, {short_hash(' '.join(names))}",
            "labels": self.labels,
            "dimension": self.dimension,
            "rank": self.sketch.rank,
            "seed": self.sketch.seed,
            "sketch": VERSION,
            "normalize": self.normalize,
            "adam": None if self.adam is None else self.adam.fingerprint(self.layers),
            **super().fingerprint(),
        }

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows that cannot be read, without running the model; notes whether any has labels."""
        super().check(rows, first_row)
        self._any_label = self._any_label or any(plain_text(row)[1] for row in rows)

    def embed(  # type: ignore[override]  # its columns are results, too
        self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None
    ) -> Embedded:
        """Computes the features of `rows`, in their order, with the norms and losses of their gradients.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are embedded. A caller that passes it also calls `report_truncation`
                at the end; without it, rows that were cut or have no label are reported at once.

        Returns:
            `Embedded`: Features (B, dimension), float32; columns `tokens`, `norm` (of the sketched gradient) and `loss`
            (mean over the row's labels, in nats).

        Raises:
            `ValueError`: If a row has no text, or no row has a label, neither here nor among those read before.
        """
        embedded = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows)
        if on_rows is None:
            self.report_truncation()
        return embedded

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Tokenizes `rows`, and remembers which were cut or have no label for `report_truncation`.

        Raises:
            `ValueError`: If a row has no text, or no row has a label, neither here nor among those read before.
        """
        tokens = super().prepare(rows, first_row)
        without_label = [first_row + i for i, row in enumerate(tokens) if not label_count(row, self.labels)]
        self._any_label = self._any_label or len(without_label) < len(tokens)
        if without_label and not self._any_label:
            raise ValueError(
                f"row {without_label[0]} has no label for labels={self.labels!r}, and no other row that was seen has "
                "one. Give rows a completion, or use labels='whole' (every token is a label) or labels='predicted' "
                "(the model's own next tokens)."
            )
        self._rows_without_label += without_label
        return tokens

    def embed_prepared(self, prepared_rows: list[Tokens], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """Computes features and columns, as `embed`, from what `prepare` returned."""
        rows_with_label = [i for i, row in enumerate(prepared_rows) if label_count(row, self.labels)]
        rows = [prepared_rows[i] for i in rows_with_label]
        lengths = [len(input_ids_of(row, self.labels)) for row in rows]
        embed_batch = lambda batch: self._embed_batch([rows[i] for i in batch])
        with frozen(self.model), self._capture.attached():
            self.choose_grouping(lambda few_rows: self._embed_batch(few_rows)[0], rows, "whole")
            features = torch.zeros(len(prepared_rows), self.dimension)  # (B, D)
            norm, loss = torch.zeros(len(prepared_rows)), torch.full((len(prepared_rows),), torch.nan)
            for batch, result in self._batches.run(lengths, embed_batch, on_rows):
                places = [rows_with_label[i] for i in batch]
                features[places], norm[places], loss[places] = (part.float().cpu() for part in result)
        if on_rows is not None and len(rows) < len(prepared_rows):
            on_rows(len(prepared_rows) - len(rows))
        tokens = torch.tensor([len(row.input_ids) for row in prepared_rows])
        return Embedded(features, {"tokens": tokens, "norm": norm, "loss": loss})

    def _truncation_messages(self) -> list[str]:
        rows, self._rows_without_label = self._rows_without_label, []
        messages = super()._truncation_messages()
        if rows:
            messages.append(
                f"{len(rows)} row(s) have no completion to take a loss on (or it was cut by max_length="
                f"{self.max_length}); their features are zero, so that they are never picked, and their loss is NaN "
                f"(the first is row {min(rows)})."
            )
        return messages

    def _embed_batch(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns features (B, D), norms (B,) and losses (B,) of a batch."""
        ids = [input_ids_of(row, self.labels) for row in rows]
        input_ids, attention = self.pad(ids)  # (B, T)
        self._head.check(input_ids[:1, : min(8, len(ids[0]))])
        labels = labels_of(rows, self.labels).to(input_ids.device)
        scale = _HALF_SCALE if self.model.dtype == torch.float16 else 1.0
        self._capture.begin(attention, scale)
        hidden = hidden_states(self.model, input_ids, attention)  # (B, T, d)
        self._capture.pause()
        gradient, loss = self._head.gradient(hidden, labels, scale)
        self._capture.backward(hidden, gradient)
        features = self._capture.features()  # (B, D)
        unit_rows, norm = unit_length(features)
        return unit_rows if self.normalize else features, norm, loss
