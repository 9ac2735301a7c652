"""What `itl-hf train` asks beside TRL's own arguments, and how all of them are read from flags and YAML.

A dataclass instead of typer options, since TRL's `TrlParser` reads dataclasses: the several hundred arguments of
`ScriptArguments`, `SFTConfig` and `ModelConfig` keep their names, and a script of your own can parse ours with its own.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.selection.selector import Selector

#: What decides the picks: a resumed run with the same ones need not select again.
DECISIVE = (
    *("targets", "targets_split", "targets_config", "num_examples", "acquisition", "kernel", "noise_std"),
    *("selection_seed", "embedding_model", "embedding_max_length"),
)
#: Options of the embedder, under its own names; TRL has a `max_length` and a `dtype` for the trainer.
READING = (
    *("layer", "pooling", "span", "skip_tokens", "batch_tokens"),
    *("modules", "dimension", "rank", "labels"),
    *("prompt_name", "normalize_embeddings"),
)
WAYS = ("num_examples", "examples_per_round", "selection")


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass
class SelectionArguments:
    """What to train on; the pool is TRL's `dataset_name`.

    Raises:
        `ValueError`: A value of the wrong kind.
    """

    targets: str | None = _option(None, "The task's prompts: a file, a folder or a Hub dataset.")
    targets_split: str = _option("train", "Split of the targets.")
    targets_config: str | None = _option(None, "Subset of a Hub dataset of targets.")
    num_examples: int | None = _option(None, "Rows to pick once, before training.")
    examples_per_round: int | None = _option(
        None, "Instead: rows to pick before every epoch, with the model as it is by then."
    )
    candidates_per_round: int | None = _option(
        None, "With examples_per_round: embed only so many rows in a round, drawn anew."
    )
    selection: str | None = _option(
        None, "Instead: folder of a selection that `itl-hf select` made; nothing is selected then."
    )
    acquisition: str = _option("itl", "itl, vtl (sift), ctl, mean_marginal_itl, undirected, cosine or random.")
    kernel: str = _option("auto", "auto, linear, rbf, laplace or cosine.")
    noise_std: str = _option("auto", "auto, or a number: small is variety, large relevance.")
    selection_seed: int = _option(0, "Seed of acquisition=random.")
    embedder: str = _option(
        "hidden_states", "Features: hidden_states or gradients of the model, or those of a sentence_encoder."
    )
    embedding_model: str | None = _option(
        None, "Model that makes the features; the one to train if left out. Not with examples_per_round."
    )
    layer: str | None = _option(
        None, "hidden_states: index (22, -1) or share of the depth (0.75) of the layer to read; several: 0.5,0.75."
    )
    pooling: str | None = _option(None, "hidden_states: mean, last or weighted_mean; several: mean,last.")
    span: str | None = _option(None, "Part of a row that is embedded: prompt, completion or whole.")
    skip_tokens: int | None = _option(None, "hidden_states: tokens at the start that are not pooled.")
    batch_tokens: int | None = _option(None, "Tokens in a batch while embedding; changes no feature.")
    modules: str | None = _option(None, "gradients: linear layers that count: all, or v_proj,down_proj.")
    dimension: int | None = _option(None, "gradients: numbers in a feature row.")
    rank: int | None = _option(None, "gradients: numbers that either side of a layer is projected to.")
    labels: str | None = _option(None, "gradients: loss on the completion, the whole, or what is predicted.")
    prompt_name: str | None = _option(None, "sentence_encoder: which of the model's prompts comes first.")
    normalize_embeddings: bool = _option(False, "sentence_encoder: scale every row to norm 1.")
    embedding_max_length: int | None = _option(None, "Tokens of a row that are embedded.")
    store: str | None = _option(None, "Folder that keeps features: none is made twice.")
    order: str = _option("shuffled", "Order of training: shuffled, gain or interleaved. Packing makes its own.")
    eval_dataset_name: str | None = _option(
        None, "Rows for eval_strategy: a file, a folder or a Hub dataset; dataset_name if left out."
    )

    def __post_init__(self) -> None:
        # YAML's numbers come as they are: `layer: 0.75` and `--layer 0.75` must mean the same.
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None and one.default is None:
                continue
            if isinstance(one.default, bool) and isinstance(value, bool):  # the parser resolves the types of fields
                continue
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError(f"{one.name} must be a text or a number, got {value!r:.60}")
            if "str" in str(one.type):
                setattr(self, one.name, str(value))
            elif not isinstance(value, int) or value < (one.name not in ("selection_seed", "skip_tokens")):
                raise ValueError(f"{one.name} must be a whole number of at least 1, got {value!r}")

    def check(self, packing: bool = False) -> None:
        """Raises `ValueError` for arguments that contradict each other.

        Args:
            packing (`bool`, *optional*, defaults to `False`):
                Whether the trainer merges rows.
        """
        from itl_hf.training.sampler import Order

        if self.order not in get_args(Order):
            raise ValueError(f"--order must be one of {', '.join(get_args(Order))}, got {self.order!r}")
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            ways = ", ".join(f"--{name}" for name in WAYS)
            raise ValueError(f"give one of {ways}; got {' and '.join(given) or 'none'}")
        if (self.targets is None) != (self.selection is not None):
            raise ValueError(
                "--targets is missing: the task's prompts, a file, a folder or a Hub dataset"
                if self.selection is None
                else "--selection brings its own targets: leave out --targets"
            )
        if self.examples_per_round is None:
            if self.candidates_per_round is not None:
                raise ValueError("--candidates_per_round goes with --examples_per_round")
            return
        if packing:
            raise ValueError("--packing merges rows, so picks cannot change between epochs: leave out one of the two")
        if self.embedding_model is not None or self.embedder == "sentence_encoder":
            raise ValueError(
                "--examples_per_round reads the model in training: leave out --embedding_model, and --embedder "
                "sentence_encoder"
            )

    def build_embedder(self, model: Any, **more: Any) -> Embedder:
        """The embedder that was asked for.

        Args:
            model (`str` or `PreTrainedModel`):
                Hub id, folder, or the model in training.
            **more:
                Further arguments of the embedder's class; those that are `None` or `False` are left out.

        Raises:
            `ValueError`: An option that this embedder does not have, or no such embedder.
        """
        from itl_hf.cli import embedder_options as models

        if self.embedder not in list(models.EmbedderName):
            raise ValueError(f"--embedder must be one of {', '.join(models.EmbedderName)}, got {self.embedder!r}")
        options = {name: getattr(self, name) for name in READING} | {"max_length": self.embedding_max_length, **more}
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        return models.build_embedder(models.EmbedderName(self.embedder), model, given)

    def selector(self, embedder: Embedder) -> Selector:
        """What picks, with these settings and this embedder.

        Args:
            embedder (`Embedder`):
                Such as `arguments.build_embedder(model)`.

        Raises:
            `ValueError`: An acquisition or kernel that does not exist, or a noise that is no number.
        """
        from itl_hf.selection.acquisitions import ACQUISITIONS
        from itl_hf.selection.selector import Selector

        draws = "seed" in getattr(ACQUISITIONS.get(self.acquisition), "__dataclass_fields__", {})
        seed = self.selection_seed if draws else None
        return Selector(
            embedder, self.acquisition, kernel=self.kernel, noise_std=self._noise(), seed=seed, store=self.store
        )

    def decisive(self) -> dict[str, Any]:
        """What decides the picks, beside the pool and the model."""
        return {name: value for name, value in asdict(self).items() if name in (*DECISIVE, "embedder", *READING)}

    def _noise(self) -> Any:
        try:
            return self.noise_std if self.noise_std == "auto" else float(self.noise_std)
        except ValueError:
            raise ValueError(f"noise_std must be auto or a number, got {self.noise_std!r}") from None


def parse(arguments: list[str]) -> tuple[Any, ...]:
    """Flags and `--config` as our arguments and TRL's.

    Args:
        arguments (`list[str]`):
            The command line behind the command's name.

    Returns:
        `tuple`: `SelectionArguments`, `ScriptArguments`, `SFTConfig`, `ModelConfig`, `DatasetMixtureConfig`.

    Raises:
        `ValueError`: An option that does not exist, on the command line or in the file, or an unreadable file.
        `ImportError`: TRL is not installed.
        `SystemExit`: A value of the wrong kind (after a line about it), or `--help`.
    """
    try:
        from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser
    except ImportError as error:
        raise ImportError("itl-hf train needs TRL: pip install 'itl-hf[trl]'") from error
    parser = TrlParser(
        (SelectionArguments, ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig),
        prog="itl-hf train",
        usage="itl-hf train --config run.yaml [--option value ...]; --help_all lists the options",
        allow_abbrev=False,
    )
    known = {name for action in parser._actions for name in (action.dest, *action.option_strings)}
    arguments = _checked_config(arguments, known)
    # Before TRL's classes are built: what they say of a value that was not set at all would only mislead.
    for flag in (word.split("=")[0] for word in arguments if word.startswith("--") and word != "--config"):
        if flag not in known:
            raise ValueError(f"unknown option {flag}{_near(flag, known)}; --help_all lists all of them")
    *parsed, rest = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    if rest:
        raise ValueError(f"{rest[0]!r} belongs to no option")
    training = parsed[2]
    # TRL's field is a text, also for `true`: go on from the last checkpoint.
    given = str(training.resume_from_checkpoint).lower()
    training.resume_from_checkpoint = {"true": True, "false": None}.get(given, training.resume_from_checkpoint)
    return tuple(parsed)


def _checked_config(arguments: list[str], known: set[str]) -> list[str]:
    """The same with `--config=x` in two words, which TRL looks for, after a look at what the file says."""
    arguments = [word for one in arguments for word in (one.split("=", 1) if one.startswith("--config=") else [one])]
    if "--config" not in arguments:
        return arguments
    rest = arguments[arguments.index("--config") + 1 :]
    if not rest or "--config" in rest:
        raise ValueError("--config needs the path of one YAML file")
    path = Path(rest[0])
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold `option: value` lines")
    for key in values:
        if key not in known and key != "env":
            raise ValueError(f"{path}: unknown option `{key}`{_near(str(key), known)}")
    return arguments


def _near(word: str, known: set[str]) -> str:
    spelling = word.lstrip("-").split("=")[0].replace("-", "_")
    found = difflib.get_close_matches(spelling, sorted(name for name in known if not name.startswith("-")), n=1)
    return f"; did you mean {found[0]}?" if found else ""
