"""Every option that more than one command takes, declared once.

The fields of these dataclasses are the options: `embed` and `select` turn them into typer options (`with_arguments`),
and `train` has them beside TRL's own arguments (`train_arguments.py`). Options reach the search through
`EmbedderArguments.build_embedder`, `PickingArguments.acquisition_object` and `PickingArguments.constraints`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
import shlex
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from itl_hf.cli.column_arguments import ColumnArguments
from itl_hf.cli.help_groups import SHOWN_DEFAULTS
from itl_hf.cli.option import option

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.selection.avoid import Avoid
    from itl_hf.selection.constraints import SelectionConstraints
    from itl_hf.selection.protocol import Acquisition
    from itl_hf.selection.replay import Replay
    from itl_hf.selection.shortlist.options import ShortlistLike, Size

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
EmbedderName = Literal["hidden_states", "gradients", "sentence_encoder", "endpoint"]
_EMBEDDER_PATHS = {
    "hidden_states": ("itl_hf.embedding.embedders.hidden_states", "HiddenStates"),
    "gradients": ("itl_hf.embedding.embedders.gradients", "Gradients"),
    "sentence_encoder": ("itl_hf.embedding.embedders.sentence_encoder", "SentenceEncoder"),
    "endpoint": ("itl_hf.embedding.embedders.endpoint", "EndpointEmbedder"),
}


@dataclass
class EmbedderArguments:
    """What is embedded and how, under the embedders' own names. Options left out keep the embedder's default."""

    embedder: EmbedderName = option(
        "hidden_states",
        "Features: the model's hidden_states, its gradients, a sentence_encoder, or an endpoint (a server).",
    )
    span: Literal["prompt", "completion", "whole"] | None = option(None, "Part of a row that is embedded.")
    layer: str | None = option(
        None,
        "hidden_states: index (22, -1) or share of the depth (0.75) of the layer to read; several: 0.5,0.75.",
        metavar="<layer>[,...]",
    )
    pooling: str | None = option(
        None, "hidden_states: mean, last or weighted_mean; several: mean,last.", metavar="<name>[,...]"
    )
    skip_tokens: int | None = option(None, "hidden_states: tokens at the start that are not pooled.")
    modules: str | None = option(
        None, "gradients: linear layers that count: all, or v_proj,down_proj.", metavar="<name>[,...]"
    )
    dimension: int | None = option(None, "gradients, and estimate without a model: numbers in a feature row.")
    rank: int | None = option(None, "gradients: numbers that either side of a layer is projected to.")
    labels: Literal["completion", "whole", "predicted"] | None = option(
        None, "gradients: loss on the completion, all tokens, or what the model predicts."
    )
    prompt_name: str | None = option(None, "sentence_encoder: which of the model's prompts comes first.")
    normalize_embeddings: bool = option(False, "sentence_encoder: scale every row to norm 1.")
    url: str | None = option(None, "endpoint: address of a server with the OpenAI interface for embeddings.")
    prefix: str | None = option(None, "endpoint: what is put before every text, such as 'query: '.")
    batch_tokens: int | None = option(None, "Tokens in a batch, padding included; changes no feature.")

    def build_embedder(self, model: Any, **options: Any) -> Embedder:
        """Builds the embedder.

        Args:
            model (`str` or `PreTrainedModel`, *optional*):
                Hub id, folder, or a live model; the default model if `None`.
            **options:
                Further arguments of the embedder's class; those that are `None` or `False` are left out.

        Raises:
            `ValueError`: If there is no such embedder, it does not have an option, or refuses its value.
        """
        if self.embedder not in _EMBEDDER_PATHS:
            raise ValueError(f"--embedder must be one of {', '.join(_EMBEDDER_PATHS)}, got {self.embedder!r}")
        module, class_name = _EMBEDDER_PATHS[self.embedder]
        kind: Any = getattr(importlib.import_module(module), class_name)
        settings = {**self.settings(), **_without_defaults(options)}
        parameters = inspect.signature(kind).parameters
        for name in settings:
            if name not in parameters:
                raise ValueError(f"--{name} is not an option of --embedder {self.embedder}; leave it out")
        if model is None and self.embedder == "sentence_encoder":
            raise ValueError("--embedder sentence_encoder needs --model_name_or_path, a sentence-transformers model")
        if self.embedder == "endpoint" and (model is None or self.url is None):
            raise ValueError("--embedder endpoint needs --url, the server, and --model_name_or_path, its model's name")
        embedder: Embedder = kind(
            model=model or DEFAULT_MODEL, **{key: _parse(key, text) for key, text in settings.items()}
        )
        return embedder

    def settings(self) -> dict[str, Any]:
        """Returns the options that were set, under the embedders' names."""
        own_names = [one.name for one in dataclasses.fields(EmbedderArguments) if one.name != "embedder"]
        return _without_defaults({name: getattr(self, name) for name in own_names})


@dataclass
class ModelArguments:
    """Which model embeds and how it is loaded, for commands that train nothing."""

    model_name_or_path: str | None = option(
        None, f"Hub id or folder. Left out: {DEFAULT_MODEL}; a sentence_encoder has to be named.", "--model"
    )
    max_length: int | None = option(None, "Tokens of a row that are read.")
    packing: bool = option(False, "hidden_states: batches without padding.")
    compile: bool = option(False, "hidden_states: run the blocks through torch.compile.")
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(None, "What the model computes in.")
    quantization: Literal["4bit", "8bit"] | None = option(
        None, "hidden_states: load weights in 4 bits (NF4) or 8 bits (LLM.int8) by bitsandbytes."
    )
    device: str | None = option(None, "Where the model runs and rows are compared: cpu, cuda:0, ...")
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = option(
        None, "hidden_states: spread a model that is too large for one GPU over all of the machine; not with --device."
    )
    revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.", "--model_revision")
    trust_remote_code: bool = option(False, "Run the model repository's code.")

    def settings(self) -> dict[str, Any]:
        """Returns the options that were set, without the model's name."""
        options = _without_defaults(vars(self))
        return {name: value for name, value in options.items() if name != "model_name_or_path"}

    def as_flags(self, embedder: EmbedderArguments) -> str:
        """Returns these options and those of the embedder as they are typed on the command line."""
        words = [] if embedder.embedder == "hidden_states" else ["--embedder", embedder.embedder]
        words += [] if self.model_name_or_path is None else ["--model_name_or_path", self.model_name_or_path]
        for name, value in {**embedder.settings(), **self.settings()}.items():
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return shlex.join(words)


@dataclass
class PickingArguments(ColumnArguments):
    """How rows are picked, and what the picks must keep to."""

    acquisition: str = option(
        "itl", "itl, vtl (sift), ctl, undirected, ...; or a baseline: random, cosine, round_robin, bm25, ..."
    )
    kernel: str = option("auto", "auto, linear, rbf, laplace or cosine.")
    standardize: str = option("auto", "Preparation of the features: auto, none, scale, dimensions, whiten-64, ...")
    noise_std: str = option(
        "auto", "auto, measured, or a number. Small: variety; large: relevance.", metavar="auto|measured|FLOAT"
    )
    target_noise_std: float | None = option(None, "Noise of the targets' values; equal to noise_std if left out.")
    shortlist: str | None = option(
        None,
        "Pick among the targets' nearest rows only: auto (1.5 times num_examples), a number of rows, or none.",
        metavar="auto|INTEGER|none",
    )
    shortlist_model: str | None = option(
        None, "A sentence-transformers model that makes the shortlist: the other model embeds only the rows on it."
    )
    quality: str | None = option(
        None, "Column of the pool with the quality of each row's answer, above 0 and at most 1.", "--quality_column"
    )
    target_weights: str | None = option(
        None, "Column of the targets with the number of copies that each counts as.", "--target_weights_column"
    )
    avoid: str | None = option(
        None, "Prompts whose tasks must not be learned: a file, a folder or a Hub dataset; for acquisition itl."
    )
    avoid_weight: float = option(1.0, "With --avoid: how much information about them counts beside that about targets.")
    replay_share: float = option(
        0.0, "Share of the rows to train on that stand for the whole pool, behind the picks, such as 0.05."
    )
    replay_method: Literal["random", "k_means"] = option(
        "random", "Where these rows come from: k_means of the features."
    )
    replace: bool = option(False, "Allow a row to be picked again.")
    exclude: str | None = option(
        None, "Rows whose prompts must never be picked, such as a benchmark: a file, a folder or a Hub dataset."
    )
    on_bad_rows: Literal["error", "skip"] = option(
        "error", "Rows that cannot be read, such as empty ones: error, or skip them."
    )
    token_budget: float | None = option(None, "What all picks may cost together: tokens by the model's tokenizer.")
    costs: str | None = option(None, "With --token_budget: column of the pool with each row's cost.", "--costs_column")
    groups: str | None = option(None, "Column of the pool with each row's group, as its source.", "--groups_column")
    group_shares: float | None = option(
        None, "Largest share of the picks that a group may have, 0 to 1.", "--max_group_share"
    )
    stop_gain: float | None = option(None, "Stop when a pick's gain would be below this.")
    stop_variance_left: float | None = option(
        None, "Stop when this share of the targets' variance is left that the pool can teach, 0 to 1."
    )

    def acquisition_object(self, seed: int | None) -> Acquisition:
        """Builds the acquisition with its noises and, if it draws rows at random, the seed.

        Raises:
            `ValueError`: If there is no such acquisition, or a noise is out of range.
        """
        from itl_hf.selection.registry import resolve_acquisition

        return resolve_acquisition(
            self.acquisition, noise_std=self._noise(), target_noise_std=self.target_noise_std, seed=seed
        )

    @property
    def standardize_argument(self) -> bool | str:
        """`standardize` as an argument of `Selector`."""
        return {"auto": True, "none": False}.get(self.standardize, self.standardize)

    def check_picking(self) -> None:
        """Raises `ValueError` if the noise or the shortlist is no number or one of two options that belong together is
        missing.
        """
        self._noise()
        self._shortlist_size()
        self.replay(None)
        if self.avoid is None and self.avoid_weight != 1.0:
            raise ValueError("--avoid_weight goes with --avoid: what is to be avoided")
        if self.avoid is not None and self.acquisition != "itl":
            raise ValueError(f"--avoid is for --acquisition itl, got {self.acquisition!r}")
        if self.replay_method != "random" and self.replay_share == 0:
            raise ValueError("--replay_method goes with --replay_share: how many of such rows")
        if self.costs is not None and self.token_budget is None:
            raise ValueError("--costs goes with --token_budget: of what, and how much")
        if (self.groups is None) != (self.group_shares is None):
            raise ValueError("--groups and --group_shares go together: groups of what, and how much of it")

    def avoid_argument(self) -> Avoid | None:
        """Loads the prompts to avoid; `None` without any."""
        from itl_hf.cli.load_rows import load_rows
        from itl_hf.selection.avoid import Avoid

        return None if self.avoid is None else Avoid(load_rows(self.avoid), self.avoid_weight)

    def replay(self, seed: int | None) -> Replay | float:
        """Builds the argument `replay_share` of `Selector.select`.

        Args:
            seed (`int`, *optional*):
                Seed of the draws; 0 if left out.

        Raises:
            `ValueError`: If the share is out of range.
        """
        from itl_hf.selection.replay import Replay

        return Replay(self.replay_share, self.replay_method, seed or 0) if self.replay_share != 0 else 0.0

    def _noise(self) -> float | str:
        try:
            return self.noise_std if self.noise_std in ("auto", "measured") else float(self.noise_std)
        except ValueError:
            raise ValueError(f"noise_std: {self.noise_std!r} is neither `auto`, `measured` nor a number") from None

    def shortlist_argument(self, device: str | None = None) -> ShortlistLike:
        """Builds the shortlist, and loads the model that makes it if one was named.

        Args:
            device (`str`, *optional*):
                Where that model runs; the best there is if left out.

        Raises:
            `ValueError`: If the size is neither `auto`, `none` nor a number of at least 1.
        """
        from itl_hf.selection.shortlist.options import Shortlist

        size = self._shortlist_size()
        if self.shortlist_model is None:
            return size
        from itl_hf.embedding.embedders.sentence_encoder import SentenceEncoder

        return Shortlist("auto" if size is None else size, SentenceEncoder(self.shortlist_model, device=device))

    def _shortlist_size(self) -> Size | None:
        from itl_hf.selection.shortlist.options import DEFAULT_SHORTLIST, check_size

        text = self.shortlist
        if text == "none" and self.shortlist_model is not None:
            raise ValueError("--shortlist none leaves nothing to do for --shortlist_model: leave out one of the two")
        if text is None or text == "none":
            return DEFAULT_SHORTLIST if text is None else None
        try:
            return check_size(text if text == "auto" else int(text))
        except ValueError:
            raise ValueError(f"--shortlist {text!r} must be auto, a number of rows (at least 1) or none") from None

    def constraints(self) -> SelectionConstraints:
        """Builds the constraints and loads the rows to exclude.

        Raises:
            `ValueError`: If one of two options that belong together is missing, or a value is out of range.
        """
        from itl_hf.cli.load_rows import load_rows
        from itl_hf.selection.constraints import SelectionConstraints
        from itl_hf.selection.stop_when import StopWhen

        self.check_picking()
        stops = self.stop_gain is not None or self.stop_variance_left is not None
        return SelectionConstraints(
            replace=self.replace,
            exclude=() if self.exclude is None else load_rows(self.exclude),
            costs=self.costs,
            token_budget=self.token_budget,
            groups=self.groups,
            group_shares=self.group_shares,
            stop_when=StopWhen(gain=self.stop_gain, variance_left=self.stop_variance_left) if stops else None,
        )


def store_argument(store: Any, no_store: bool) -> Any:
    """Returns `store` as an argument of `Selector`.

    Raises:
        `ValueError`: If a folder was named and `--no_store` was given.
    """
    if store is not None and no_store:
        raise ValueError("--no_store keeps no features, and --store names a folder for them: leave out one of the two")
    return False if no_store else store


def with_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives the command an option for every field of each parameter that is annotated with a dataclass."""
    hints = typing.get_type_hints(command, include_extras=True)
    kinds = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint) and name != "return"}

    @functools.wraps(command)
    def run(**options: Any) -> Any:
        for name, kind in kinds.items():
            values = {one.name: options.pop(one.name) for one in dataclasses.fields(kind)}
            plain = {key: value.value if isinstance(value, enum.Enum) else value for key, value in values.items()}
            options[name] = kind(**plain)  # type: ignore[operator]
        return command(**options)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in kinds:
            parameters += _typer_parameters(kinds[parameter.name])
        else:
            annotation = hints[parameter.name]
            parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _typer_parameters(kind: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(kind)
    parameters = []
    for one in dataclasses.fields(kind):
        metadata = dict(one.metadata)
        annotation, aliases = hints[one.name], metadata.pop("aliases")
        choices = [
            arm.__args__ for arm in (annotation, *typing.get_args(annotation)) if typing.get_origin(arm) is Literal
        ]
        if choices:
            members: Any = enum.StrEnum(one.name, {name: name for name in choices[0]})  # type: ignore[misc]
            annotation = typing.Optional[members]  # noqa: UP045  (a union with a type that is made here)
        names = [f"--{one.name}", *aliases]
        if one.name in SHOWN_DEFAULTS:
            metadata["show_default"] = SHOWN_DEFAULTS[one.name]
        parameters.append(
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=one.default,
                annotation=Annotated[annotation, typer.Option(*names, **metadata)],
            )
        )
    return parameters


def _without_defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _parse(name: str, value: Any) -> Any:
    """Converts the options that hold several values, separated by commas."""
    if name not in ("layer", "pooling", "modules"):
        return value
    parts = [part.strip() for part in str(value).split(",") if part.strip()]
    if not parts:
        raise ValueError(f"--{name} is empty")
    values = [layer_number(part) for part in parts] if name == "layer" else parts
    if name == "modules":
        return value if value == "all" else values
    return values if len(values) > 1 else values[0]


def layer_number(text: str) -> int | float:
    """Converts `"22"` to the index of a layer and `"0.75"` to a share of the depth.

    Raises:
        `ValueError`: If the text is neither.
    """
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise ValueError(
            f"--layer {text!r} is no layer: give an index (22, -1) or a share of the depth (0.75)"
        ) from None
