"""The arguments of `itl-hf train` beside TRL's own, and how all of them are read from flags and YAML.

TRL's `TrlParser` reads dataclasses, so the several hundred arguments of `ScriptArguments`, `SFTConfig` and
`ModelConfig` keep their names, and a script of your own can parse ours with its own.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from itl_hf.cli.arguments import EmbedderArguments, PickingArguments, store_argument
from itl_hf.cli.column_arguments import join_words
from itl_hf.cli.option import option
from itl_hf.cli.yaml_file import read_yaml

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.selection.selector import Selector

#: Options that do not decide the picks: a resumed run in which only these differ need not select again.
NOT_DECISIVE = (
    *("examples_per_round", "candidates_per_round", "selection", "store", "no_store", "order", "eval_dataset_name"),
    "overwrite",
)
WAYS = ("num_examples", "examples_per_round", "selection")


@dataclass
class SelectionArguments(EmbedderArguments, PickingArguments):
    """What to train on; the pool is TRL's `dataset_name`.

    TRL has a `seed`, a `max_length` and a model of its own for the trainer, so ours are called `selection_seed`,
    `embedding_max_length` and `embedding_model`.

    Raises:
        `ValueError`: If a value is of the wrong kind.
    """

    targets: str | None = option(None, "The task's prompts: a file, a folder or a Hub dataset.")
    targets_split: str = option("train", "Split of the targets.")
    targets_config: str | None = option(None, "Subset of a Hub dataset of targets.")
    num_examples: int | None = option(None, "Rows to pick once, before training.")
    examples_per_round: int | None = option(
        None, "Instead: rows to pick before every epoch, with the model as it is by then."
    )
    candidates_per_round: int | None = option(
        None, "With examples_per_round: embed only so many rows in a round, drawn anew."
    )
    selection: str | None = option(
        None, "Instead: folder of a selection that `itl-hf select` made; nothing is selected then."
    )
    selection_seed: int = option(0, "Seed of acquisition=random.")
    embedding_model: str | None = option(None, "Model that makes the features; not with examples_per_round.")
    embedding_max_length: int | None = option(None, "Tokens of a row that are embedded.")
    store: str | None = option(None, "Folder that keeps features: none is made twice. Left out: the cache.")
    no_store: bool = option(False, "Keep no features, not in the cache either.")
    overwrite: bool = option(
        False, "Replace a selection of other arguments in output_dir/selection; train beside other files."
    )
    order: str = option("shuffled", "Order of training: shuffled, gain or interleaved. Packing makes its own.")
    eval_dataset_name: str | None = option(
        None, "Rows for eval_strategy: a file, a folder or a Hub dataset; dataset_name if left out."
    )

    def __post_init__(self) -> None:
        # YAML keeps numbers as numbers; `layer: 0.75` and `--layer 0.75` must mean the same.
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in ("columns", "targets_columns") and isinstance(value, dict | list):
                words = [f"{part}={column}" for part, column in value.items()] if isinstance(value, dict) else value
                value = " ".join(map(str, words))
                setattr(self, one.name, value)
            if value is None and one.default is None:
                continue
            if isinstance(one.default, bool) and isinstance(value, bool):  # the parser resolves the types of fields
                continue
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError(f"{one.name} must be a text or a number, got {value!r:.60}")
            if re.search(r"\bint\b", str(one.type)):
                if not isinstance(value, int) or value < (one.name not in ("selection_seed", "skip_tokens")):
                    raise ValueError(f"{one.name} must be a whole number of at least 1, got {value!r}")
            elif re.search(r"\bfloat\b", str(one.type)):
                if isinstance(value, str):
                    raise ValueError(f"{one.name} must be a number, got {value!r:.60}")
            else:
                setattr(self, one.name, str(value))

    def check(self, packing: bool = False) -> None:
        """Raises `ValueError` for arguments that contradict each other.

        Args:
            packing (`bool`, *optional*, defaults to `False`):
                Whether the trainer merges rows.
        """
        from itl_hf.training.sampler import Order

        if self.order not in get_args(Order):
            raise ValueError(f"--order must be one of {', '.join(get_args(Order))}, got {self.order!r}")
        self.check_picking()
        ways_given = [name for name in WAYS if getattr(self, name) is not None]
        if len(ways_given) != 1:
            ways = ", ".join(f"--{name}" for name in WAYS)
            raise ValueError(f"give one of {ways}; got {' and '.join(ways_given) or 'none'}")
        if (self.targets is None) != (self.selection is not None):
            raise ValueError(
                "--targets is missing: the task's prompts, a file, a folder or a Hub dataset"
                if self.selection is None
                else "--selection brings its own targets: leave out --targets"
            )
        if self.embedder == "endpoint" and self.embedding_model is None:
            raise ValueError("--embedder endpoint needs --embedding_model, the model's name at the server, and --url")
        if self.examples_per_round is None:
            if self.candidates_per_round is not None:
                raise ValueError("--candidates_per_round goes with --examples_per_round")
            return
        if self.replay_share != 0 or self.avoid is not None:
            raise ValueError("--replay_share and --avoid go with --num_examples, not with --examples_per_round")
        if packing:
            raise ValueError("--packing merges rows, so picks cannot change between epochs: leave out one of the two")
        if self.embedding_model is not None or self.embedder in ("sentence_encoder", "endpoint"):
            raise ValueError(
                "--examples_per_round reads the model in training: leave out --embedding_model, and --embedder "
                "sentence_encoder or endpoint"
            )

    def build_embedder(self, model: Any, **options: Any) -> Embedder:
        """Builds the embedder; the arguments are those of `EmbedderArguments.build_embedder`."""
        return super().build_embedder(model, max_length=self.embedding_max_length, **options)

    def selector(self, embedder: Embedder) -> Selector:
        """Builds a `Selector` with these settings and this embedder.

        Args:
            embedder (`Embedder`):
                Such as `arguments.build_embedder(model)`.

        Raises:
            `ValueError`: If there is no such acquisition or kernel, or a noise is out of range.
        """
        from itl_hf.selection.registry import ACQUISITION_NAMES, has_seed
        from itl_hf.selection.selector import Selector

        draws = self.acquisition in ACQUISITION_NAMES and has_seed(self.acquisition)
        return Selector(
            embedder,
            self.acquisition_object(self.selection_seed if draws else None),
            kernel=self.kernel,
            standardize=self.standardize_argument,
            store=store_argument(self.store, self.no_store),
            shortlist=self.shortlist_argument(),
            on_bad_rows=self.on_bad_rows,
            **self.column_arguments(),
        )

    def decisive(self) -> dict[str, Any]:
        """Returns the options that decide the picks, beside the pool and the model."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_DECISIVE}


def parse(arguments: list[str]) -> tuple[Any, ...]:
    """Parses flags and `--config` into our arguments and TRL's.

    Args:
        arguments (`list[str]`):
            The words of the command line after the command's name.

    Returns:
        `tuple`: `SelectionArguments`, `ScriptArguments`, `SFTConfig`, `ModelConfig`, `DatasetMixtureConfig`.

    Raises:
        `ValueError`: If an option does not exist, on the command line or in the file, or the file cannot be read.
        `ImportError`: If TRL is not installed.
        `SystemExit`: If a value is of the wrong kind (a line about it is printed), or for `--help`.
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
    option_names = {name for action in parser._actions for name in (action.dest, *action.option_strings)}
    number_names = {action.dest for action in parser._actions if action.type in (int, float)}
    arguments = _checked_config(join_words(arguments), option_names, number_names)
    # Checked before TRL's classes are built: their errors about other values would be misleading.
    for flag in (word.split("=")[0] for word in arguments if word.startswith("--") and word != "--config"):
        if flag not in option_names:
            raise ValueError(f"unknown option {flag}{_near(flag, option_names)}; --help_all lists all of them")
    *parsed_arguments, rest = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    if rest:
        raise ValueError(f"{rest[0]!r} belongs to no option")
    training = parsed_arguments[2]
    # In TRL the field is a text, also for `true`, which means the last checkpoint.
    resume = str(training.resume_from_checkpoint).lower()
    training.resume_from_checkpoint = {"true": True, "false": None}.get(resume, training.resume_from_checkpoint)
    return tuple(parsed_arguments)


def _checked_config(arguments: list[str], option_names: set[str], number_names: set[str]) -> list[str]:
    """Splits `--config=x` into two words, as TRL expects them, and checks the options in the file."""
    arguments = [word for one in arguments for word in (one.split("=", 1) if one.startswith("--config=") else [one])]
    if "--config" not in arguments:
        return arguments
    rest = arguments[arguments.index("--config") + 1 :]
    if not rest or "--config" in rest:
        raise ValueError("--config needs the path of one YAML file")
    path = Path(rest[0])
    values = read_yaml(path)
    if not values:
        raise ValueError(f"{path} must hold `option: value` lines")
    for key in values:
        if key not in option_names and key != "env":
            raise ValueError(f"{path}: unknown option `{key}`{_near(str(key), option_names)}")
        if key in number_names and isinstance(values[key], bool):
            raise ValueError(f"{path}: `{key}` must be a number, got {str(values[key]).lower()}")
    return arguments


def _near(word: str, option_names: set[str]) -> str:
    spelling = word.lstrip("-").split("=")[0].replace("-", "_")
    matches = difflib.get_close_matches(
        spelling, sorted(name for name in option_names if not name.startswith("-")), n=1
    )
    return f"; did you mean {matches[0]}?" if matches else ""
