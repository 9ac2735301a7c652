"""Train on a selection with the Trainer that is already there: `attach(trainer, selection)`.

The trainer keeps its dataset, arguments, callbacks and checkpoints; only the order in which it walks the training rows
changes. The price is that picks are row numbers, so the trainer must hold the pool row for row. Where its preparation
filters or shuffles rows, give the pool a column `itl_index` with the row numbers and picks are found through it. Where
rows are packed together there is nothing left to point at, and the answer is `train_dataset=selection.dataset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import datasets
import numpy as np

from itl_hf.selection.selector import Rows, Selector
from itl_hf.text import TEXT_COLUMNS, as_dataset, row_format
from itl_hf.training.attachment import Attachment, attachment_of, seed_of
from itl_hf.training.pick_positions import (
    check_text,
    check_trainer,
    pick_positions,
    pool_positions,
    rows_per_step,
    warn_about_strategy,
    warn_about_tail,
)
from itl_hf.training.rounds import ActiveRounds, RoundOptions, RoundSampler, check_options
from itl_hf.training.sampler import Order, Picks, SelectionSampler, digest, nearest_targets_of, row_numbers

if TYPE_CHECKING:
    from transformers import Trainer

    AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)

Remainder = Literal["repeat", "drop"]


def attach(
    trainer: AnyTrainer,
    selection: Picks | Selector,
    *,
    order: Order = "gain",
    seed: int | None = None,
    remainder: Remainder = "repeat",
    targets: Rows | None = None,
    examples_per_round: int | None = None,
    pool: Rows | None = None,
    candidates_per_round: int | None = None,
    already_selected: Sequence[int] | None = None,
    replace: bool = False,
) -> AnyTrainer:
    """Makes a Trainer train on exactly the picked rows of its training dataset.

    With a selection (or row numbers), every epoch is one pass over the picks. With a [`Selector`], every epoch is one
    *active round*: before it, the pool is embedded with the model as it is by then, and `examples_per_round` new rows
    are picked, conditioned on all that was trained on before; `num_train_epochs` is the number of rounds.

    The dataset is not copied, and evaluation and prediction stay as they are. Epochs, steps, schedules, checkpoints and
    `resume_from_checkpoint` mean what they always do: picks are in `trainer_state.json`, and resuming with another
    selection, order or seed is an error. Attaching twice replaces the first selection.

    The training dataset must be the pool, row for row, or `selection.dataset`. If it has a column `itl_index`, picks
    are looked up there instead of by position, and the trainer may filter or shuffle rows as it likes. Where the
    trainer still holds the text of its rows, that of up to 64 of them is compared.

    On several processes accelerate fills up the last step of an epoch with the first picks (`even_batches`), so that
    all processes take equally many steps. A warning says how many picks that repeats; none are when batch size times
    processes divides the number of picks, or with `remainder="drop"`.

    Args:
        trainer (`transformers.Trainer`):
            A Trainer or a subclass that leaves the training sampler alone, such as TRL's `SFTTrainer` or the trainers
            of sentence-transformers, with any model (PEFT or not). It is changed in place.
        selection ([`Selection`], `Sequence[int]`, `np.ndarray`, `torch.Tensor` or [`Selector`]):
            A selection from the trainer's training dataset, or row numbers of it, shape `(n,)`, best first. Or a
            selector for active rounds, whose embedder reads the live model: `Selector(HiddenStates(trainer.model,
            tokenizer=trainer.processing_class))`. Its `store`, if it has one, grows by one set of features with every
            round.
        order (`"gain"`, `"shuffled"` or `"interleaved"`, *optional*, defaults to `"gain"`):
            Best first in every epoch, permuted anew for each, or dealt out in turn over the targets; see
            [`SelectionSampler`].
        seed (`int`, *optional*):
            Seed of the shuffled order and of `candidates_per_round`. Defaults to the trainer's `data_seed`, or else its
            `seed`.
        remainder (`"repeat"` or `"drop"`, *optional*, defaults to `"repeat"`):
            What happens to picks that do not fill a last step of all processes: repeat the first ones beside them (on
            one process the last batch is smaller instead), or leave them out of the epoch.
        targets (`Dataset`, `list[dict]` or `list[str]`, *optional*):
            Active rounds: the task's prompts.
        examples_per_round (`int`, *optional*):
            Active rounds: rows to pick before each epoch.
        pool (same types, *optional*):
            Active rounds: the pool as text, row for row what the trainer was given as `train_dataset`. Defaults to the
            trainer's dataset, if its columns with text are still there. (SFTTrainer keeps them, with the end token put
            behind.)
        candidates_per_round (`int`, *optional*):
            Active rounds: pick from so many rows, drawn anew for each round, instead of all; only these and those
            trained on are embedded.
        already_selected (`Sequence[int]`, *optional*):
            Active rounds: rows of the pool that the model was trained on before.
        replace (`bool`, *optional*, defaults to `False`):
            Active rounds: whether a row may be picked again in a later round.

    Returns:
        `transformers.Trainer`: The same trainer.

    Raises:
        `ValueError`: If the trainer has no training dataset, streams it, packs or shuffles its rows, or holds other
            rows than the pool the picks were made from; if the pool has too few rows for all rounds.
        `TypeError`: If the trainer is not a `transformers.Trainer`, or brings a training order of its own; if arguments
            of active rounds come without a selector, or a selector without `targets` and `examples_per_round`.

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
    sampling = Sampling(order, seed_of(trainer, seed), rows_per_step(trainer) if remainder == "drop" else 1)
    round_arguments: dict[str, Any] = {
        "targets": targets,
        "examples_per_round": examples_per_round,
        "pool": pool,
        "candidates_per_round": candidates_per_round,
        "already_selected": already_selected,
        "replace": replace,
    }
    attachment: Attachment
    if isinstance(selection, Selector):
        attachment = _rounds(trainer, selection, sampling, **round_arguments)
    else:
        given = [name for name, value in round_arguments.items() if value is not None and value is not False]
        if given:
            raise TypeError(
                f"{', '.join(given)} belong to active rounds, which need a Selector instead of a "
                f"{type(selection).__name__}."
            )
        attachment = _static(trainer, selection, sampling)
    warn_about_strategy(trainer)
    warn_about_tail(trainer, len(attachment.sampler))
    attachment.install()
    return trainer


def picks_of(trainer: Trainer) -> list[np.ndarray]:
    """What a trainer has been given to train on by `attach`, as row numbers of the pool.

    Args:
        trainer (`transformers.Trainer`):
            A trainer with something attached.

    Returns:
        `list[np.ndarray]`: for active rounds the picks of each round so far, else the one selection; each of shape
        `(n,)`, int64, best first.

    Raises:
        `ValueError`: Nothing is attached.
    """
    attachment = attachment_of(trainer)
    if attachment is None:
        raise ValueError("Nothing is attached to this trainer: call attach(trainer, selection) first.")
    return attachment.picks()


@dataclass(frozen=True)
class Sampling:
    """How picks become an epoch, see `SelectionSampler`."""

    order: Order
    seed: int
    multiple_of: int


def _static(trainer: Trainer, selection: Picks, sampling: Sampling) -> Attachment:
    picks = row_numbers(selection)  # (n,)
    rows = pick_positions(trainer, picks, selection)  # (n,)
    check_text(trainer, rows, getattr(selection, "dataset", None))
    nearest = nearest_targets_of(selection)
    sampler = SelectionSampler(
        rows, sampling.order, sampling.seed, nearest_targets=nearest, multiple_of=sampling.multiple_of
    )
    settings = {"kind": "selection", **asdict(sampling), "num_picks": len(picks), "picks": digest(picks)}
    if nearest is not None and sampling.order == "interleaved":
        settings["nearest_targets"] = digest(nearest)
    return Attachment(trainer, sampler, settings, picks)


def _rounds(
    trainer: Trainer,
    selector: Selector,
    sampling: Sampling,
    *,
    targets: Rows | None,
    examples_per_round: int | None,
    pool: Rows | None,
    candidates_per_round: int | None,
    already_selected: Sequence[int] | None,
    replace: bool,
) -> Attachment:
    if targets is None or examples_per_round is None:
        raise TypeError("A selector needs targets= and examples_per_round= to select before each epoch.")
    source, positions = _round_pool(trainer, pool)
    options = RoundOptions(
        pool=source,
        targets=_text_only(_as_dataset(targets, "targets"), "targets"),
        positions=positions,
        examples_per_round=examples_per_round,
        candidates_per_round=candidates_per_round,
        already_selected=tuple(int(row) for row in (() if already_selected is None else already_selected)),
        replace=replace,
    )
    check_options(trainer, options)
    sampler = RoundSampler(examples_per_round, sampling.order, sampling.seed, sampling.multiple_of)
    return ActiveRounds(trainer, sampler, selector, options)


def _round_pool(trainer: Trainer, pool: Rows | None) -> tuple[datasets.Dataset, np.ndarray]:
    """The pool as text, and where each of its rows is in the trainer's dataset."""
    if pool is not None:
        source = _as_dataset(pool, "pool")
        positions = pool_positions(trainer, source)  # (N,)
        check_text(trainer, positions, source)
        return _text_only(source, "pool"), positions
    dataset: Any = trainer.train_dataset
    try:
        row_format(getattr(dataset, "column_names", None) or ())
    except ValueError as error:
        raise ValueError(
            "The trainer's train_dataset has no text to embed any more: pass pool=, the rows that it was made of."
        ) from error
    return _text_only(as_dataset(dataset, "train_dataset"), "train_dataset"), np.arange(len(dataset))


def _text_only(rows: datasets.Dataset, name: str) -> datasets.Dataset:
    try:
        row_format(rows.column_names)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    # A selection adds columns of its own names: a pool that was itself a selection has them already.
    return rows.select_columns([name for name in rows.column_names if name in TEXT_COLUMNS])


def _as_dataset(rows: Rows, name: str) -> datasets.Dataset:
    if isinstance(rows, datasets.DatasetDict):
        raise ValueError(f"{name} is a DatasetDict: pass one of its splits ({', '.join(map(str, rows))}).")
    return as_dataset(cast(Any, rows), name)
