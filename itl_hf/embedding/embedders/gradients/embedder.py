"""Per-example gradients as features: the empirical neural tangent kernel, one small vector for each row.

The inner product of two rows estimates that of their loss gradients with respect to the hooked weights: how far a step
on one lowers the loss of the other. Of what can be computed from one model, nothing tells better which data teach a
task; it costs about three forward passes, where hidden states cost one or less. Rows do not depend on their batch, on
padding or on `batch_tokens`, up to float rounding. Not covered: biases, norms, embeddings, the language-model head,
experts of a mixture, encoder-decoder models.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from itl_hf.embedding.embedders.base import Embedded, Embedder
from itl_hf.embedding.embedders.batching import TokenBatches
from itl_hf.embedding.embedders.gradients.head import Head, Labels, output_embeddings
from itl_hf.embedding.embedders.gradients.hooks import Capture, frozen
from itl_hf.embedding.embedders.gradients.layers import coverage, find_layers, warn_of_experts
from itl_hf.embedding.embedders.gradients.sketch import VERSION, KroneckerSketch
from itl_hf.embedding.embedders.language_model import LanguageModel, load_model, short_hash, without_peft
from itl_hf.embedding.embedders.weights_hash import WeightsIdentity
from itl_hf.text import Row, Tokens, plain_text

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedders.base import Fingerprint
    from itl_hf.embedding.embedders.gradients.adam import AdamPreconditioner

logger = logging.getLogger(__name__)
LabelKind = Literal["completion", "whole", "predicted"]
#: Multiplies gradients on their way back in float16, whose smallest number is 6e-8.
_HALF_SCALE = 1024.0


@dataclass(frozen=True)
class Prepared:
    """Rows ready for the model: their token ids, and the number of the first of them."""

    tokens: list[Tokens]
    first_row: int


class Gradients(Embedder):
    """Sketched gradients of each row's own mean loss with respect to a language model's linear layers.

    `labels` says which tokens the loss is taken on:

    - `"completion"`: those of the completion, each predicted from what comes before it. What a step of fine-tuning on
      that row would do.
    - `"whole"`: every token but the first, for rows of plain text.
    - `"predicted"`: no label is needed. The row's completion is not read; at every position of the prompt, from the
      first to the last, the label is the token that the model itself finds most likely next. With a conversation the
      prompt includes the template's opening of the answer, and with the last position the answer's first token.

    Compare like with like. For unlabelled targets take `labels="predicted"` for the pool as well: the nearest row is
    then one of the same task as often as with completions on both sides (.76 and .73 of 84 texts of SmolLM2-135M). A
    pool with completions against targets with predicted labels, `pool.with_labels("predicted")`, shares a sketch, and
    the inner products are those of the gradients, but the gradients hardly agree: a prompt's own two rows have a cosine
    of -.08, and the nearest row is of the same task for .06 (recipes/benchmarks/gradients.py, part `labels`).

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            A Hub id, a folder, or a causal language model (with a PEFT adapter or without). An object is used as it is;
            what is changed during a pass (`requires_grad`, training mode, hooks) is put back. Gradient checkpointing is
            used where the model has it on.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        modules (`"all"` or `list[str]`, *optional*, defaults to `"all"`):
            Which linear layers; with a trained LoRA adapter `"all"` means its own. Names are compared from their end:
            `["v_proj", "down_proj"]` saves about a sixth of the time and keeps most of the geometry.
        dimension (`int`, *optional*, defaults to 8192):
            Numbers in a feature row. The noise of a cosine is about 1 / sqrt(dimension).
        rank (`int`, *optional*, defaults to 256):
            Most numbers that the output side of a layer is projected to; the input side gets a quarter of it.
        labels (`"completion"`, `"whole"` or `"predicted"`, *optional*, defaults to `"completion"`):
            See above. Rows without a label get a zero vector and the loss NaN, and are counted in one warning.
        max_length (`int`, *optional*):
            Tokens beyond are cut from the end. Defaults to the model's context, at most 2048.
        batch_tokens (`int`, *optional*, defaults to 4096):
            Most tokens in a batch, padding included. Halved where memory runs out; the features stay the same.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"bfloat16"` or `"float16"`, for a model loaded here. Sums are in float32.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU; for a model object, to where it is.
        normalize (`bool`, *optional*, defaults to `True`):
            Whether rows get unit length: gradients of long or hard rows would dominate otherwise. The length before is
            kept in the column `norm`.
        seed (`int`, *optional*, defaults to 0):
            Of the random projections. Only features of one seed can be compared.
        adam (`AdamPreconditioner`, *optional*):
            Rescales gradients as Adam does (LESS).
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.

    Raises:
        `ValueError`: An argument out of range, or a layer name that the model does not have.
        `TypeError`: The model is not a causal language model.

    Example:
        >>> embedder = Gradients(model)  # such as "HuggingFaceTB/SmolLM2-135M-Instruct"
        >>> embedded = embedder.embed([{"prompt": "2 + 2 =", "completion": " 4"}])
        >>> embedded.features.shape, embedded.columns["loss"].shape
        (torch.Size([1, 8192]), torch.Size([1]))
    """

    prepares_ahead = True

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
        _check_labels(labels)
        hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        if isinstance(model, str | Path):
            loaded: nn.Module = load_model(model, head=True, dtype=dtype, device=device, **hub)
        else:
            loaded = model if device is None else model.to(device)
        self.model = _causal(loaded)
        self.layers = find_layers(self.model, modules)
        self.sketch = KroneckerSketch(dimension, rank, seed)
        self.normalize = normalize
        # Rounding rows of unit length to float16 costs less than the sketch's own noise.
        self.storage_dtype = "float16" if normalize else "float32"
        self.adam = adam
        for layer in self.layers if adam is not None else ():
            adam.rescaling(layer)  # type: ignore[union-attr]  # what is missing shows now
        self._batches = TokenBatches(batch_tokens)
        self._capture = Capture(self.model, self.layers, self.sketch, adam)
        self._head = Head(self.model)
        self._weights = WeightsIdentity(self.model)
        self._hub = {**hub, "tokenizer": tokenizer, "max_length": max_length}
        self._set_labels(labels)
        if isinstance(modules, str):
            warn_of_experts(self.model)

    def _set_labels(self, labels: LabelKind) -> None:
        self.labels: LabelKind = labels
        span: Any = "prompt" if labels == "predicted" else "whole"
        self.language_model = LanguageModel(self.model, span=span, **self._hub)
        self._hub["tokenizer"] = self.language_model.tokenizer
        self._unlabelled: list[int] = []
        self._any_label = False

    def with_labels(self, labels: LabelKind) -> Gradients:
        """The same embedder (model, layers, sketch) with the loss on other tokens; features can be compared."""
        _check_labels(labels)
        other = copy.copy(self)
        other._hub = dict(self._hub)
        other._set_labels(labels)
        return other

    def for_targets(self, targets: Sequence[Row]) -> Gradients:
        """The embedder for pool and targets alike, given the targets: predicted labels if none has a completion.

        Completions on one side and predicted labels on the other hardly agree, see the class's text.
        """
        if self.labels != "completion" or any(plain_text(row)[1] for row in targets):
            return self
        logger.warning(
            "The targets have no completions: gradients of pool and targets are taken on the labels that the model "
            "predicts for their prompts."
        )
        return self.with_labels("predicted")

    @property
    def dimension(self) -> int:
        """Numbers in a feature row."""
        return self.sketch.dimension

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:  # type: ignore[override]
        """What rows are read with."""
        return self.language_model.tokenizer

    @property
    def batch_tokens(self) -> int:  # type: ignore[override]
        """Most tokens in a batch; less than what was given where memory ran out."""
        return self._batches.batch_tokens

    def token_counts(self, rows: Sequence[Row]) -> list[int]:
        """Tokens that the model reads of each row."""
        return self.language_model.token_counts(rows)

    def coverage(self) -> float:
        """Share of the model's parameters whose gradients the features hold."""
        return coverage(self.model, self.layers)

    def fingerprint(self) -> Fingerprint:
        """Everything that determines the features of a row. Computed anew: a live model may be in training."""
        names = [layer.name for layer in self.layers]
        return {
            "embedder": "gradients",
            "weights": self._weights(),
            "layers": f"{len(names)} layers, {short_hash(' '.join(names))}",
            "labels": self.labels,
            "dimension": self.dimension,
            "rank": self.sketch.rank,
            "seed": self.sketch.seed,
            "sketch": VERSION,
            "normalize": self.normalize,
            "adam": None if self.adam is None else self.adam.fingerprint(self.layers),
            **self.language_model.fingerprint(),
        }

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise for rows that `embed` would refuse, without running the model."""
        self.language_model.check(rows, first_row)
        self._any_label = self._any_label or any(plain_text(row)[1] for row in rows)

    def embed(
        self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None
    ) -> Embedded:
        """Features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are done. Whoever passes it also calls `report_truncation` at the
                end; without it what is to be reported is reported at once.

        Returns:
            `Embedded`: features (B, dimension), float32; columns `tokens`, `norm` (of the sketched gradient) and `loss`
            (mean over the row's labels, in nats).

        Raises:
            `ValueError`: A row without text; no row with a label, here or among those seen before.
        """
        embedded = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows)
        if on_rows is None:
            self.report_truncation()
        return embedded

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> Prepared:
        """Token ids: what can be done for the next rows while the model is busy with these."""
        tokens = self.language_model.tokens(rows, first_row)
        bare = [first_row + i for i, row in enumerate(tokens) if not self._count(row)]
        self._any_label = self._any_label or len(bare) < len(tokens)
        if bare and not self._any_label:
            raise ValueError(
                f"row {bare[0]} has no label for labels={self.labels!r}, and no other row that was seen has one. Give "
                "rows a completion, or use labels='whole' (every token is a label) or labels='predicted' (the model's "
                "own next tokens)."
            )
        self._unlabelled += bare
        return Prepared(tokens, first_row)

    def embed_prepared(self, prepared_rows: Prepared, *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """As `embed`, from what `prepare` returned."""
        rows = prepared_rows.tokens
        labelled = [i for i, row in enumerate(rows) if self._count(row)]
        with frozen(self.model), self._capture.attached():
            features = torch.zeros(len(rows), self.dimension)  # (B, D)
            norm, loss = torch.zeros(len(rows)), torch.full((len(rows),), torch.nan)
            lengths = [len(self._read(rows[i])) for i in labelled]
            for batch, result in self._batches.run(
                lengths, lambda batch: self._run([rows[labelled[i]] for i in batch])
            ):
                places = [labelled[i] for i in batch]
                features[places], norm[places], loss[places] = (part.float().cpu() for part in result)
                if on_rows is not None:
                    on_rows(len(batch))
        if on_rows is not None and len(labelled) < len(rows):
            on_rows(len(rows) - len(labelled))
        tokens = torch.tensor([len(row.input_ids) for row in rows])
        return Embedded(features, {"tokens": tokens, "norm": norm, "loss": loss})

    def report_truncation(self) -> None:
        """Warn, once and with their number, about rows cut and rows without a label since the last report."""
        self.language_model.report_truncation()
        bare, self._unlabelled = self._unlabelled, []
        if bare:
            warnings.warn(
                f"{len(bare)} row(s) have no completion to take a loss on (or it was cut by max_length="
                f"{self.language_model.max_length}); their features are zero and their loss is NaN (the first is row "
                f"{min(bare)}).",
                stacklevel=3,
            )

    def _run(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, D), norms (B,) and losses (B,) of a batch."""
        read = [Tokens(self._read(row), 0) for row in rows]
        input_ids, attention = self.language_model.pad(read)  # (B, T)
        self._head.check(input_ids[:1, : min(8, len(read[0].input_ids))])
        labels = self._labels(rows).to(input_ids.device)
        scale = _HALF_SCALE if self.model.dtype == torch.float16 else 1.0
        self._capture.begin(attention, scale)
        hidden = self.model.base_model(input_ids=input_ids, attention_mask=attention, **self._no_cache)[0]  # (B, T, d)
        self._capture.pause()
        gradient, loss = self._head.gradient(hidden, labels, scale)
        self._capture.backward(hidden, gradient)
        features = self._capture.features()  # (B, D)
        norm = features.norm(dim=1)
        if self.normalize:
            features = features / norm.clamp_min(torch.finfo(features.dtype).tiny)[:, None]
        return features, norm, loss

    @property
    def _no_cache(self) -> dict[str, Any]:
        known = inspect.signature(self.model.base_model.forward).parameters
        return {"use_cache": False} if "use_cache" in known or "kwargs" in known else {}

    def _read(self, row: Tokens) -> list[int]:
        """What the model reads: the last token of a labelled row predicts nothing."""
        return row.input_ids if self.labels == "predicted" else row.input_ids[:-1]

    def _first(self, row: Tokens) -> int:
        """The first token with a label; the very first of a row has nothing before it."""
        return max(1, row.prompt_length) if self.labels == "completion" else 1

    def _count(self, row: Tokens) -> int:
        if self.labels == "predicted":
            return len(row.input_ids)
        return max(0, len(row.input_ids) - self._first(row))

    def _labels(self, rows: Sequence[Tokens]) -> Labels:
        starts = [self._first(row) - 1 for row in rows]
        counts = torch.tensor([self._count(row) for row in rows])  # (B,)
        each = torch.arange(len(rows)).repeat_interleave(counts)  # (N,)
        positions = torch.cat([torch.arange(s, s + int(n)) for s, n in zip(starts, counts, strict=True)])
        tokens = None
        if self.labels != "predicted":
            tokens = torch.tensor([token for row in rows for token in row.input_ids[self._first(row) :]])
        return Labels(each, positions, tokens, (1 / counts.float())[each])


def _check_labels(labels: str) -> None:
    if labels not in get_args(LabelKind):
        raise ValueError(f"labels must be one of {get_args(LabelKind)}, got {labels!r}.")


def _causal(model: nn.Module) -> PreTrainedModel:
    model = without_peft(model, "leave the model's layers alone")
    if model.config.is_encoder_decoder or not model.can_generate() or output_embeddings(model) is None:
        raise TypeError(
            f"gradients need a causal language model with its head, got {type(model).__name__}. Load it with "
            "AutoModelForCausalLM, or use HiddenStates."
        )
    return model
