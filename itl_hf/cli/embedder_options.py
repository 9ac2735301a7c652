"""What `embed` and `select` ask about the model and its features: the same options, so that both mean the same work.

Options left out keep the embedder's own default; one that the chosen embedder does not have is refused by name.
"""

from __future__ import annotations

import inspect
import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


class EmbedderName(StrEnum):
    """What the features are."""

    hidden_states = "hidden_states"
    gradients = "gradients"
    sentence_encoder = "sentence_encoder"


class Span(StrEnum):
    """The part of a row that is embedded."""

    prompt = "prompt"
    completion = "completion"
    whole = "whole"


class Labels(StrEnum):
    """What the loss is taken on."""

    completion = "completion"
    whole = "whole"
    predicted = "predicted"


class Dtype(StrEnum):
    """What the model computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


EmbedderOption = Annotated[
    EmbedderName, typer.Option("--embedder", help="Features: the model's hidden states, its gradients, or an encoder.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model_name_or_path",
        "--model",
        help=f"Hub id or folder. Left out: {DEFAULT_MODEL}; a sentence_encoder has to be named.",
        show_default=False,
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option("--revision", "--model_revision", help="Branch, tag or commit of the model on the Hub.")
]
TrustOption = Annotated[bool, typer.Option("--trust_remote_code", help="Run the model repository's code.")]
DtypeOption = Annotated[Dtype | None, typer.Option("--dtype", help="What the model computes in; float32 if left out.")]
FourBitOption = Annotated[bool, typer.Option("--load_in_4bit", help="Load weights in 4 bits (bitsandbytes).")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, ...; the best there is if left out.")]
SpanOption = Annotated[Span | None, typer.Option("--span", help="Part of a row that is embedded.")]
LengthOption = Annotated[int | None, typer.Option("--max_length", help="Tokens of a row that are read.")]
BatchOption = Annotated[
    int | None, typer.Option("--batch_tokens", help="Tokens in a batch, padding included; changes no feature.")
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="<layer>[,...]",
        help="hidden_states: index (22, -1) or share of the depth (0.75) of the layer to read; several: 0.5,0.75.",
    ),
]
PoolingOption = Annotated[
    str | None,
    typer.Option(
        "--pooling", metavar="<name>[,...]", help="hidden_states: mean, last or weighted_mean; several: mean,last."
    ),
]
SkipOption = Annotated[
    int | None, typer.Option("--skip_tokens", help="hidden_states: tokens at the start that are not pooled.")
]
PackingOption = Annotated[bool, typer.Option("--packing", help="hidden_states: batches without padding.")]
CompileOption = Annotated[bool, typer.Option("--compile", help="hidden_states: run the blocks through torch.compile.")]
ModulesOption = Annotated[
    str | None,
    typer.Option(
        "--modules", metavar="<name>[,...]", help="gradients: linear layers that count: all, or v_proj,down_proj."
    ),
]
DimensionOption = Annotated[int | None, typer.Option("--dimension", help="gradients: numbers in a feature row.")]
RankOption = Annotated[
    int | None, typer.Option("--rank", help="gradients: numbers that either side of a layer is projected to.")
]
LabelsOption = Annotated[
    Labels | None,
    typer.Option("--labels", help="gradients: loss on the completion, all tokens, or what the model predicts."),
]
PromptOption = Annotated[
    str | None, typer.Option("--prompt_name", help="sentence_encoder: which of the model's prompts comes first.")
]
NormalizeOption = Annotated[
    bool, typer.Option("--normalize_embeddings", help="sentence_encoder: scale every row to norm 1.")
]

DryRunOption = Annotated[
    bool, typer.Option("--dry_run", help="Estimate rows, tokens, time, disk and memory from a few batches; do nothing.")
]

#: Options that go to the embedder as they are, under its own names.
SETTINGS = (
    *("revision", "trust_remote_code", "dtype", "load_in_4bit", "device", "span", "max_length", "batch_tokens"),
    *("layer", "pooling", "skip_tokens", "packing", "compile"),
    *("modules", "dimension", "rank", "labels"),
    *("prompt_name", "normalize_embeddings"),
)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options that are for the embedder and were not left out."""
    return {name: options[name] for name in SETTINGS if options[name] not in (None, False)}


def build_embedder(kind: EmbedderName, model: Any, settings: dict[str, Any]) -> Embedder:
    """The embedder that a command asks for.

    Args:
        kind (`EmbedderName`):
            Which class.
        model (`str` or `PreTrainedModel`, *optional*):
            Hub id, folder, or a live model.
        settings (`dict`):
            What `given` returned.

    Raises:
        `ValueError`: An option that this embedder does not have, or one that it refuses.
    """
    made: Any = _class(kind)
    known = inspect.signature(made).parameters
    for name in settings:
        if name not in known:
            raise ValueError(f"--{name} is not an option of --embedder {kind}; leave it out")
    if model is None and kind is EmbedderName.sentence_encoder:
        raise ValueError("--embedder sentence_encoder needs --model_name_or_path, a sentence-transformers model")
    embedder: Embedder = made(model or DEFAULT_MODEL, **{name: _value(name, value) for name, value in settings.items()})
    return embedder


def _class(kind: EmbedderName) -> type:
    # Each brings its own heavy imports, and sentence-transformers may not be installed.
    if kind is EmbedderName.sentence_encoder:
        from itl_hf.embedding.embedders.sentence_encoder import SentenceEncoder

        return SentenceEncoder
    if kind is EmbedderName.gradients:
        from itl_hf.embedding.embedders.gradients import Gradients

        return Gradients
    from itl_hf.embedding.embedders.hidden_states import HiddenStates

    return HiddenStates


def _value(name: str, value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if name not in ("layer", "pooling", "modules"):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise ValueError(f"--{name} is empty")
    values = [layer_number(part) for part in parts] if name == "layer" else parts
    if name == "modules":
        return value if value == "all" else values
    return values if len(values) > 1 else values[0]


def layer_number(text: str) -> int | float:
    """`22` is the layer of that index, `0.75` a share of the depth.

    Raises:
        `ValueError`: Neither.
    """
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise ValueError(
            f"--layer {text!r} is no layer: give an index (22, -1) or a share of the depth (0.75)"
        ) from None


def as_flags(kind: EmbedderName, model: str | None, settings: dict[str, Any]) -> str:
    """The same options as a user types them."""
    words = [] if kind is EmbedderName.hidden_states else ["--embedder", kind.value]
    words += [] if model is None else ["--model_name_or_path", model]
    for name, value in settings.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)
