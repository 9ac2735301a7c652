"""`attach(trainer, selection)`: trains on a selection with a Trainer that already exists.

The trainer keeps its dataset, arguments, callbacks and checkpoints; only which training rows it takes, and in which
order, changes. The price is that picks are row numbers, so the trainer's dataset must be the pool, row for row. If the
trainer filters or shuffles rows while it prepares them, give the pool a column `itl_index` with the row numbers, and
picks are looked up in it. If the trainer packs rows together, single rows no longer exist: use
`train_dataset=selection.dataset` instead of `attach`. Trainers that generate answers (GRPO) repeat each prompt; what
they repeat are then the picks (`repeated_prompts.py`).

Checks of the trainer are in `trainer_checks.py`, the mapping from picks to the trainer's rows in `pick_positions.py`,
the connection to the trainer in `attachment.py`, resuming (in the middle of an epoch too) in `resume.py`, and selection
before every epoch in `rounds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import datasets
import numpy as np

from itl_hf.embedding.row_reading import read_dataset
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.feature_arrays import check_row_numbers
from itl_hf.selection.row_weights import Numbers, RowNumbers, check_weighs_targets
from itl_hf.selection.selector import Rows, Selector
from itl_hf.text import TextRows, as_dataset, as_targets
from itl_hf.text.formats import recognize_format
from itl_hf.text.recognize import canonical_format
from itl_hf.training.attachment import Attachment, attachment_of
from itl_hf.training.batch_samplers import check_batch_sampler
from itl_hf.training.pick_positions import check_text, pick_positions, pool_positions
from itl_hf.training.round_options import RoundOptions, check_round_options
from itl_hf.training.rounds import ActiveRounds, RoundSampler
from itl_hf.training.sampler import (
    Order,
    SelectionOrIndices,
    SelectionSampler,
    nearest_targets_of,
    row_numbers,
    rows_digest,
    training_dataset_of,
)
from itl_hf.training.trainer_checks import (
    check_trainer,
    rows_per_step,
    warn_about_incomplete_step,
    warn_about_sampling_strategy,
)

if TYPE_CHECKING:
    from transformers import Trainer

    AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)

Remainder = Literal["repeat", "drop"]


def attach(
    trainer: AnyTrainer,
    selection: SelectionOrIndices | Selector,
    *,
    order: Order = "gain",
    seed: int | None = None,
    remainder: Remainder = "repeat",
    targets: Rows | None = None,
    examples_per_round: int | None = None,
    pool: Rows | None = None,
    candidates_per_round: int | None = None,
    already_selected: Sequence[int] | None = None,
    constraints: SelectionConstraints | None = None,
    quality: str | Numbers | None = None,
    target_weights: str | Numbers | None = None,
) -> AnyTrainer:
    """Makes a Trainer train on exactly the picked rows of its training dataset.

    With a selection (or row numbers), every epoch is one pass over the picks. With a [`Selector`], every epoch is one
    *active round*: before the epoch, the pool is embedded with the model as it is by then, and `examples_per_round` new
    rows are picked, conditioned on everything that was trained on before; `num_train_epochs` is the number of rounds.

    The dataset is not copied, and evaluation and prediction do not change. Epochs, steps, schedules, checkpoints and
    `resume_from_checkpoint` work as without a selection: the picks are stored in `trainer_state.json`, and resuming
    with another selection, order or seed is an error. A second call replaces the first selection.

    The training dataset must be the pool, row for row, or `selection.dataset`. If it has a column `itl_index`, picks
    are looked up in that column instead of by position, and the trainer may filter or shuffle rows. If the trainer
    still holds the text of its rows, the text of up to 64 of them is compared with the pool.

    A sampler of batches that a trainer of sentence-transformers was built with (`batch_sampler="no_duplicates"`,
    `"group_by_label"` or one of your own) stays: it makes the batches, of the picked rows alone, and decides their
    order. A warning says so.

    On several processes accelerate fills up the last step of an epoch with the first picks (`even_batches`), so that
    all processes take equally many steps. A warning says how many picks are repeated. No pick is repeated if the number
    of picks is a multiple of batch size times processes, or with `remainder="drop"`.

    Args:
        trainer (`transformers.Trainer`):
            A Trainer or a subclass that does not replace the training sampler, such as TRL's `SFTTrainer` and
            `DPOTrainer`, the trainers of sentence-transformers, or TRL's trainers that generate answers, such as
            `GRPOTrainer`; with any model (PEFT or not). It is changed in place.
        selection ([`Selection`], `Sequence[int]`, `np.ndarray`, `torch.Tensor` or [`Selector`]):
            A selection from the trainer's training dataset, or row numbers of it, shape `(n,)`, best first. For active
            rounds, a selector whose embedder holds the live model: `Selector(HiddenStates(trainer.model,
            tokenizer=trainer.processing_class))`. If the selector has a `store`, every round adds one set of features
            to it.
        order (`"gain"`, `"shuffled"` or `"interleaved"`, *optional*, defaults to `"gain"`):
            Best first in every epoch, shuffled in every epoch, or one pick of each nearest target in turn; see
            [`SelectionSampler`].
        seed (`int`, *optional*):
            Seed of the shuffled order and of `candidates_per_round`. Defaults to the trainer's `data_seed`, or its
            `seed` if there is none.
        remainder (`"repeat"` or `"drop"`, *optional*, defaults to `"repeat"`):
            What to do with the last picks if they do not fill a step of all processes, or the prompts that a trainer
            generates answers for at once. `"repeat"` fills it with the first picks (on one process the last batch is
            smaller instead, where the trainer takes smaller ones), `"drop"` leaves the last picks out of
            the epoch.
        targets (`Dataset`, `list[dict]` or `list[str]`, *optional*):
            Active rounds: the prompts of the task.
        examples_per_round (`int`, *optional*):
            Active rounds: number of rows to pick before each epoch.
        pool (same types, *optional*):
            Active rounds: the pool as text, row for row what the trainer was built with as `train_dataset`. Defaults to
            the trainer's dataset if that still has its columns with text. (SFTTrainer keeps them and appends the
            end-of-sequence token.)
        candidates_per_round (`int`, *optional*):
            Active rounds: number of rows, drawn at random in each round, to pick from instead of all rows; only these
            and the rows trained on are embedded.
        already_selected (`Sequence[int]`, *optional*):
            Active rounds: rows of the pool that the model was trained on before.
        constraints (`SelectionConstraints`, *optional*):
            Active rounds: rows that may not be picked, shares of groups in each round, and whether a row may be picked
            again in a later round. A round always has `examples_per_round` picks, so budgets and `stop_when` are
            refused.
        quality (`str` or `Sequence[float]`, *optional*):
            Active rounds: quality of the rows of the pool, as in `Selector.select`.
        target_weights (`str` or `Sequence[float]`, *optional*):
            Active rounds: weights of the targets, as in `Selector.select`.

    Returns:
        `transformers.Trainer`: The same trainer.

    Raises:
        `ValueError`: If the trainer has no training dataset, streams it, packs or shuffles its rows, or its rows are
            not those of the pool that was selected from; if the pool has too few rows for all rounds.
        `TypeError`: If the trainer is not a `transformers.Trainer`, or its class has a training order of its own; if
            arguments of active rounds are passed without a selector, or a selector without `targets` and
            `examples_per_round`.

    Example:
        >>> from itl_hf import attach
        >>> trainer = SFTTrainer(model, args=args, train_dataset=pool, peft_config=lora)  # doctest: +SKIP
        >>> attach(trainer, selection).train()  # doctest: +SKIP

        Active rounds, five of 100 rows each with `num_train_epochs=5`:

        >>> embedder = HiddenStates(trainer.model, tokenizer=trainer.processing_class)  # doctest: +SKIP
        >>> options = {"targets": targets, "examples_per_round": 100, "pool": pool}  # doctest: +SKIP
        >>> attach(trainer, Selector(embedder), **options).train()  # doctest: +SKIP
    """
    check_trainer(trainer)
    if remainder not in ("repeat", "drop"):
        raise ValueError(f"remainder must be 'repeat' or 'drop', not {remainder!r}.")
    if seed is None:
        seed = trainer.args.seed if trainer.args.data_seed is None else trainer.args.data_seed
    sampling = SamplingOptions(order, seed, multiple_of=rows_per_step(trainer) if remainder == "drop" else 1)
    has_own_batches = check_batch_sampler(trainer, order, sampling.multiple_of, isinstance(selection, Selector))
    round_arguments: dict[str, Any] = {
        "targets": targets,
        "examples_per_round": examples_per_round,
        "pool": pool,
        "candidates_per_round": candidates_per_round,
        "already_selected": already_selected,
        "constraints": constraints,
        "quality": quality,
        "target_weights": target_weights,
    }
    attachment: Attachment
    if isinstance(selection, Selector):
        attachment = _active_rounds(trainer, selection, sampling, **round_arguments)
    else:
        round_names = [name for name, value in round_arguments.items() if value is not None]
        if round_names:
            raise TypeError(
                f"{', '.join(round_names)} belong to active rounds, which need a Selector instead of a "
                f"{type(selection).__name__}."
            )
        attachment = _selection_attachment(trainer, selection, sampling)
    warn_about_sampling_strategy(trainer)
    if not has_own_batches:
        warn_about_incomplete_step(trainer, len(attachment.sampler))
    attachment.install()
    return trainer


def picks_of(trainer: Trainer) -> list[np.ndarray]:
    """Returns the picks that `attach` makes a trainer train on, as row numbers of the pool.

    Args:
        trainer (`transformers.Trainer`):
            A trainer that a selection or a selector is attached to.

    Returns:
        `list[np.ndarray]`: For active rounds the picks of each round so far, otherwise the one selection; each of shape
        `(n,)`, int64, best first.

    Raises:
        `ValueError`: If nothing is attached.
    """
    attachment = attachment_of(trainer)
    if attachment is None:
        raise ValueError("Nothing is attached to this trainer: call attach(trainer, selection) first.")
    return attachment.picks()


@dataclass(frozen=True)
class SamplingOptions:
    """The arguments of `SelectionSampler` that determine the order and the length of an epoch."""

    order: Order
    seed: int
    multiple_of: int


def _selection_attachment(trainer: Trainer, selection: SelectionOrIndices, sampling: SamplingOptions) -> Attachment:
    picks = row_numbers(selection)  # (n,)
    rows = pick_positions(trainer, picks, selection)  # (n,)
    check_text(trainer, rows, training_dataset_of(selection))
    nearest = nearest_targets_of(selection)
    sampler = SelectionSampler(
        rows, sampling.order, sampling.seed, nearest_targets=nearest, multiple_of=sampling.multiple_of
    )
    settings = {"kind": "selection", **asdict(sampling), "num_picks": len(picks), "picks": rows_digest(picks)}
    if nearest is not None and sampling.order == "interleaved":
        settings["nearest_targets"] = rows_digest(nearest)
    return Attachment(trainer, sampler, settings, picks)


def _active_rounds(
    trainer: Trainer,
    selector: Selector,
    sampling: SamplingOptions,
    *,
    targets: Rows | None,
    examples_per_round: int | None,
    pool: Rows | None,
    candidates_per_round: int | None,
    already_selected: Sequence[int] | None,
    constraints: SelectionConstraints | None,
    quality: str | Numbers | None,
    target_weights: str | Numbers | None,
) -> Attachment:
    if targets is None or examples_per_round is None:
        raise TypeError("A selector needs targets= and examples_per_round= to select before each epoch.")
    rows, positions = _pool_and_positions(trainer, pool)
    pool_text = TextRows(rows, selector.columns)
    constraints = SelectionConstraints() if constraints is None else constraints
    reading = read_dataset(pool_text) if constraints.excludes_texts else None
    resolved_constraints = constraints.resolve(rows, reading, selector.columns)
    target_rows = as_targets(_one_split(targets, "targets"), pool_text, columns=selector.targets_columns)
    target_text = TextRows(target_rows, name="targets")
    numbers = RowNumbers.read(rows, target_rows, quality, target_weights)
    check_weighs_targets(selector.acquisition, numbers.target_weights)
    options = RoundOptions(
        # The result of the selection has columns of its own, which a pool that is itself a selection already has.
        pool=pool_text.to_dataset(),
        targets=target_text.to_dataset(),
        positions=positions,
        examples_per_round=examples_per_round,
        candidates_per_round=candidates_per_round,
        already_selected=tuple(
            check_row_numbers(() if already_selected is None else already_selected, len(rows), "already_selected")
        ),
        constraints=resolved_constraints,
        constraints_json=constraints.to_json(resolved_constraints),
        numbers=numbers,
    )
    check_round_options(trainer, options)
    sampler = RoundSampler(examples_per_round, sampling.order, sampling.seed, sampling.multiple_of)
    return ActiveRounds(trainer, sampler, selector.of_read_rows(), options)


def _pool_and_positions(trainer: Trainer, pool: Rows | None) -> tuple[datasets.Dataset, np.ndarray]:
    """Returns the pool with its columns of text and the position of each of its rows in the trainer's dataset."""
    if pool is not None:
        rows = as_dataset(_one_split(pool, "pool"), "pool")
        positions = pool_positions(trainer, rows)  # (N,)
        check_text(trainer, positions, rows)
        return rows, positions
    dataset: Any = trainer.train_dataset
    names = getattr(dataset, "column_names", None) or ()
    if canonical_format(names, {}) is None and recognize_format(names, {}) is None:
        raise ValueError(
            "The trainer's train_dataset has no text to embed any more: pass pool=, the rows that it was made from."
        )
    return as_dataset(dataset, "train_dataset"), np.arange(len(dataset))


def _one_split(rows: Rows, name: str) -> Any:
    if isinstance(rows, datasets.DatasetDict):
        raise ValueError(f"{name} is a DatasetDict: pass one of its splits ({', '.join(map(str, rows))}).")
    return rows
