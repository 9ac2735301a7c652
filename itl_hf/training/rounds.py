"""Active rounds: before every epoch, select again with the model as it is by then.

One epoch is one round. The pool, or a random part of it, is embedded with the live model, the picks are conditioned on
everything trained on so far, and the epoch trains on the new ones alone. The price is an embedding of the pool (or of
the part) in every round; what it costs is logged beside what it brought.

Picks of all rounds are kept in `trainer_state.json`, so a resumed run trains on the same rows. A round that was
interrupted before its first checkpoint is selected again; where the selector has a `store`, its features are still
there, since the same weights give the same features. Each round adds one set of features to that store.

Not covered: weights sharded over processes (FSDP, DeepSpeed ZeRO-3), where no process holds the model to embed with.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from itl_hf import distributed
from itl_hf.embedding.embed import rows_fingerprint
from itl_hf.embedding.embedders.base import Embedder
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.registry import describe_acquisition
from itl_hf.training.attachment import Attachment
from itl_hf.training.preserve_state import preserve_training_state, shares_weights
from itl_hf.training.sampler import Order, SelectionSampler, digest, nearest_targets_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from transformers import Trainer, TrainerState

    from itl_hf.selection.result.selection import Selection
    from itl_hf.selection.selector import Selector


@dataclasses.dataclass(frozen=True)
class RoundOptions:
    """What is selected in each round.

    Args:
        pool (`Dataset`):
            The rows as text, `N` of them.
        targets (`Dataset`):
            The rows of the task as text.
        positions (`np.ndarray`):
            Shape `(N,)`, where each row of the pool is in the trainer's dataset; -1 where the trainer dropped it.
        examples_per_round (`int`):
            Rows to pick.
        candidates_per_round (`int`, *optional*):
            Rows drawn at random to pick from; all when left out.
        already_selected (`tuple[int, ...]`):
            Rows of the pool that the model was trained on before.
        replace (`bool`):
            Whether a row may be picked again.
    """

    pool: Dataset
    targets: Dataset
    positions: np.ndarray
    examples_per_round: int
    candidates_per_round: int | None = None
    already_selected: tuple[int, ...] = ()
    replace: bool = False

    def open_rows(self, trained: list[int]) -> np.ndarray:
        """Rows of the pool that may be picked next, ascending."""
        usable = np.flatnonzero(self.positions >= 0)
        return usable if self.replace else np.setdiff1d(usable, np.asarray(trained, dtype=np.int64))


class RoundSampler(SelectionSampler):
    """A sampler whose picks are replaced before every epoch; as many each time.

    Args:
        num_examples (`int`):
            Picks of a round.
        order, seed, multiple_of:
            See `SelectionSampler`.
    """

    def __init__(self, num_examples: int, order: Order, seed: int, multiple_of: int) -> None:
        self._ready = False
        blank = np.zeros(num_examples, dtype=np.int64)
        super().__init__(blank, order, seed, nearest_targets=blank, multiple_of=multiple_of)

    def load(self, rows: np.ndarray, nearest_targets: np.ndarray | None) -> None:
        """The picks of the next epoch, shape `(num_examples,)`, and their targets."""
        if len(rows) != len(self.indices):
            raise ValueError(f"A round has {len(self.indices)} picks, not {len(rows)}.")
        self._take(rows, nearest_targets)
        self._ready = True

    def rows(self) -> np.ndarray:
        """The row numbers of the current epoch, shape `(len(self),)`, int64."""
        if not self._ready:
            raise RuntimeError("The first round is selected when training begins; until then there are no picks.")
        return super().rows()


class ActiveRounds(Attachment):
    """Selects before each epoch, and remembers what was selected.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        sampler (`RoundSampler`):
            What it trains on.
        selector (`Selector`):
            Picks the rows; its embedder reads `trainer.model`.
        options (`RoundOptions`):
            What is selected in each round.
    """

    sampler: RoundSampler

    def __init__(self, trainer: Trainer, sampler: RoundSampler, selector: Selector, options: RoundOptions) -> None:
        # Read to the last row now: a row that cannot be embedded must not show up in the seventh round.
        pool_hash = rows_fingerprint(options.pool, selector.embedder)
        settings = {
            "kind": "rounds",
            "order": sampler.order,
            "seed": sampler.seed,
            "multiple_of": sampler.multiple_of,
            "examples_per_round": options.examples_per_round,
            "candidates_per_round": options.candidates_per_round,
            "replace": options.replace,
            "already_selected": digest(np.asarray(options.already_selected)),
            "acquisition": {"name": selector.acquisition.name, **describe_acquisition(selector.acquisition)},
            "pool": pool_hash,
            "targets": rows_fingerprint(options.targets, selector.embedder),
        }
        super().__init__(trainer, sampler, settings)
        self.selector, self.options = selector, options
        self.rounds: list[dict[str, Any]] = []
        self._warned = False
        if trainer.model_init is None:
            self._check_model()
        if trainer.args.max_steps <= 0:
            self._check_size(math.ceil(trainer.args.num_train_epochs))

    def picks(self) -> list[np.ndarray]:
        """Rows of the pool picked in each round so far, each of shape `(examples_per_round,)`."""
        return [np.asarray(one["picks"], dtype=np.int64) for one in self.rounds]

    def state(self) -> dict[str, Any]:
        """The settings and the picks of every round."""
        return {**self.settings, "rounds": [dict(one) for one in self.rounds]}

    def start(self, state: TrainerState) -> None:
        """Forgets the rounds of an earlier call of `train()`."""
        self.rounds = []
        self._check_model()
        self._check_size(state.num_train_epochs)

    def resume(self, state: TrainerState, saved: dict[str, Any]) -> None:
        """Takes over the rounds of the checkpoint."""
        self.rounds = [dict(one) for one in saved["rounds"]]
        self._check_model()
        self._check_size(state.num_train_epochs)

    def before_epoch(self, epoch: int) -> None:
        """Selects, unless the checkpoint brought this round's picks."""
        del self.rounds[epoch + 1 :]
        if epoch > len(self.rounds):
            raise RuntimeError(
                f"Round {epoch} comes next, but the checkpoint holds {len(self.rounds)} rounds: was it saved with "
                "another batch size or another number of processes? Resume with those."
            )
        if epoch == len(self.rounds):
            self.rounds.append(self._select(epoch))
        current = self.rounds[epoch]
        rows = self.options.positions[np.asarray(current["picks"], dtype=np.int64)]  # (n,)
        self.sampler.load(rows, np.asarray(current["nearest_targets"], dtype=np.int64))

    def _select(self, number: int) -> dict[str, Any]:
        trained = [*self.options.already_selected, *(row for one in self.rounds for row in one["picks"])]
        rows = self._rows(number, trained)  # (R,), ascending
        whole = len(rows) == len(self.options.pool)
        pool = self.options.pool if whole else self.options.pool.select(rows)
        clock = _Clock(self.selector.embedder)
        timed = copy.copy(self.selector)
        timed.embedder = clock  # type: ignore[assignment]  # a virtual subclass of `Embedder`
        model: Any = self.trainer.model
        with preserve_training_state(model, [self.sampler.seed, number]):
            selection = timed.select(
                pool,
                self.options.targets,
                self.options.examples_per_round,
                constraints=SelectionConstraints(replace=self.options.replace),
                already_selected=np.searchsorted(rows, trained).tolist(),
            )
        nearest = nearest_targets_of(selection)
        shared = np.stack([rows[selection.indices], np.zeros(len(selection)) if nearest is None else nearest])  # (2, n)
        # All processes computed the same; the first one's picks are taken in case a last bit differed.
        picks, targets = distributed.from_first(torch.from_numpy(shared.astype(np.int64))).tolist()
        self._log(number, selection, clock.seconds())
        return {"picks": picks, "nearest_targets": targets}

    def _rows(self, number: int, trained: list[int]) -> np.ndarray:
        """What the selector sees in a round: candidates, and what was trained on, which it conditions on."""
        candidates = self.options.open_rows(trained)
        wanted = self.options.candidates_per_round
        if wanted is not None and wanted < len(candidates):
            draw = np.random.default_rng([self.sampler.seed, number])
            candidates = draw.choice(candidates, wanted, replace=False)
        return np.union1d(candidates, np.asarray(trained, dtype=np.int64))

    def _log(self, number: int, selection: Selection, seconds: tuple[float, float]) -> None:
        from transformers import Trainer

        logs = {
            "itl/round": number,
            "itl/gain": float(selection.gains.sum()),
            "itl/target_variance": float(selection.target_variance[-1].mean()),
            "itl/embedding_seconds": round(seconds[0], 3),
            "itl/selection_seconds": round(seconds[1], 3),
        }
        # Not the subclass's: TRL's `log` would add the averages of its own metrics since the last line and reset them.
        Trainer.log(self.trainer, logs)

    def _check_size(self, num_rounds: int) -> None:
        open_rows = len(self.options.open_rows(list(self.options.already_selected)))
        needed = self.options.examples_per_round * (1 if self.options.replace else num_rounds)
        if needed > open_rows:
            raise ValueError(
                f"{num_rounds} rounds (one for each epoch) of {self.options.examples_per_round} picks need {needed} "
                f"rows, but the pool has {open_rows} to pick from. Use fewer epochs, fewer examples_per_round, a "
                "larger pool, or replace=True to let rows be picked again."
            )

    def _check_model(self) -> None:
        model: Any = self.trainer.model
        shared = True if self._warned else shares_weights(self.selector.embedder, model)
        if shared:
            return
        self._warned = True
        holds = "another model object than" if shared is False else "no model that could be found, at least not"
        warnings.warn(
            f"The selector's embedder ({type(self.selector.embedder).__name__}) holds {holds} the one in training "
            f"({type(model).__name__}), so later rounds would pick as if nothing had been learned. Build it on the "
            "live model: Selector(HiddenStates(trainer.model, tokenizer=trainer.processing_class)).",
            stacklevel=5,
        )


@Embedder.register
class _Clock:
    """Forwards to an embedder and records when it was last called; the time after that is spent on selection."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self._started = self._last = time.perf_counter()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._embedder, name)
        if not callable(value):
            return value

        def noted(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            finally:
                self._last = time.perf_counter()

        call: Callable[..., Any] = noted
        return call

    def for_targets(self, targets: Any) -> _Clock:
        """Forwards to the embedder's own choice from here on."""
        self._embedder = self._embedder.for_targets(targets)
        return self

    def seconds(self) -> tuple[float, float]:
        """For embedding, reading of rows and the store included, and for the rest until now."""
        return self._last - self._started, time.perf_counter() - self._last


def check_options(trainer: Trainer, options: RoundOptions) -> None:
    """Raises `ValueError` for numbers that make no rounds, and for a trainer whose model no process holds."""
    for name in ("examples_per_round", "candidates_per_round"):
        value = getattr(options, name)
        if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
    wanted = options.candidates_per_round
    if wanted is not None and wanted < options.examples_per_round:
        raise ValueError(
            f"candidates_per_round={wanted} is less than examples_per_round={options.examples_per_round}: there would "
            "be nothing to choose."
        )
    outside = [row for row in options.already_selected if not 0 <= row < len(options.pool)]
    if outside:
        raise ValueError(f"already_selected: row {outside[0]} is not among the {len(options.pool)} rows of the pool.")
    zero3 = trainer.is_deepspeed_enabled and trainer.accelerator.deepspeed_plugin.zero_stage == 3
    if trainer.is_fsdp_enabled or zero3:
        raise ValueError(
            "Active rounds embed with the model in training, which FSDP and DeepSpeed ZeRO-3 keep in pieces. Train "
            "with DDP or ZeRO-2, or select once before training and attach that selection."
        )
