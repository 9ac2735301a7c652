"""`ActiveRounds`: selects again before every epoch, with the model as it is by then.

One epoch is one round. The pool, or a random part of it, is embedded with the live model, the new picks are conditioned
on everything trained on so far, and the epoch trains on the new picks alone. The price is that the pool (or the part)
is embedded in every round; the log has the seconds of each round next to its information gain.

The picks of all rounds are stored in `trainer_state.json`, so a resumed run trains on the same rows, also in the middle
of a round. A round that was interrupted before its first checkpoint is selected again; if the selector has a `store`,
the features of that round are read from it, since the same weights give the same features. Each round adds one set of
features to the store. The default cache (a selector without `store`) keeps only features of embedders that do not
hold the model in training, such as that of a shortlist.

Not supported: weights sharded over processes (FSDP, DeepSpeed ZeRO-3), where no process has the whole model to embed
with.
"""

from __future__ import annotations

import copy
import functools
import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from itl_hf import distributed
from itl_hf.embedding.embed import rows_fingerprint
from itl_hf.embedding.embedders.base import Embedder
from itl_hf.embedding.store.cache import FeatureCache
from itl_hf.selection.embed_job import Store
from itl_hf.selection.pool_memory import PoolMemory
from itl_hf.selection.registry import describe_acquisition
from itl_hf.selection.screening.larger_pool import LargerPool, pool_wording
from itl_hf.training.attachment import Attachment
from itl_hf.training.preserve_state import preserve_training_state
from itl_hf.training.sampler import Order, SelectionSampler, nearest_targets_of, rows_digest
from itl_hf.training.weight_sharing import shares_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import Trainer, TrainerState

    from itl_hf.selection.result.selection import Selection
    from itl_hf.selection.selector import Selector
    from itl_hf.training.round_options import RoundOptions


class RoundSampler(SelectionSampler):
    """A sampler whose picks are replaced before every epoch; their number stays the same.

    Args:
        num_examples (`int`):
            Number of picks in a round.
        order, seed, multiple_of:
            As in `SelectionSampler`.
    """

    def __init__(self, num_examples: int, order: Order, seed: int, multiple_of: int) -> None:
        self._has_picks = False
        placeholder = np.zeros(num_examples, dtype=np.int64)
        super().__init__(placeholder, order, seed, nearest_targets=placeholder, multiple_of=multiple_of)

    def load_round(self, rows: np.ndarray, nearest_targets: np.ndarray | None) -> None:
        """Sets the picks of the next epoch and their nearest targets, both of shape `(num_examples,)`."""
        if len(rows) != len(self.indices):
            raise ValueError(f"A round has {len(self.indices)} picks, not {len(rows)}.")
        self._set_picks(rows, nearest_targets)
        self._has_picks = True

    def rows(self) -> np.ndarray:
        """Returns the row numbers of the current epoch, shape `(len(self),)`, int64."""
        if not self._has_picks:
            raise RuntimeError("The first round is selected when training begins; until then there are no picks.")
        return super().rows()


class ActiveRounds(Attachment):
    """Selects before each epoch and stores the picks of every round in checkpoints.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        sampler (`RoundSampler`):
            Yields the rows to train on.
        selector (`Selector`):
            Picks the rows; its embedder holds `trainer.model`.
        options (`RoundOptions`):
            What is selected in each round.
    """

    sampler: RoundSampler

    def __init__(self, trainer: Trainer, sampler: RoundSampler, selector: Selector, options: RoundOptions) -> None:
        # Reads all rows now, so that a row that cannot be embedded is an error before training and not in a late round.
        pool_hash = rows_fingerprint(options.pool, selector.embedder)
        if selector.shortlist is not None and selector.shortlist.embedder is not None:
            rows_fingerprint(options.pool, selector.shortlist.embedder)
        settings = {
            "kind": "rounds",
            "order": sampler.order,
            "seed": sampler.seed,
            "multiple_of": sampler.multiple_of,
            "examples_per_round": options.examples_per_round,
            "candidates_per_round": options.candidates_per_round,
            "constraints": _shorten_exclusion(options.constraints_json),
            "already_selected": rows_digest(np.asarray(options.already_selected)),
            **({} if selector.shortlist is None else {"shortlist": selector.shortlist.to_json()}),
            "acquisition": {"name": selector.acquisition.name, **describe_acquisition(selector.acquisition)},
            "pool": pool_hash,
            "targets": rows_fingerprint(options.targets, selector.embedder),
            **options.numbers_digests(),
        }
        super().__init__(trainer, sampler, settings)
        self.selector, self.options = selector, options
        self.rounds: list[dict[str, Any]] = []
        self._has_warned = False
        if trainer.model_init is None:
            self._warn_about_other_model()
        if trainer.args.max_steps <= 0:
            self._check_pool_size(math.ceil(trainer.args.num_train_epochs))

    def picks(self) -> list[np.ndarray]:
        """Returns the rows of the pool picked in each round so far, each of shape `(examples_per_round,)`."""
        return [np.asarray(one["picks"], dtype=np.int64) for one in self.rounds]

    def state(self) -> dict[str, Any]:
        """Returns the settings and the picks of every round, which a checkpoint stores."""
        return {**self.settings, "rounds": [dict(one) for one in self.rounds]}

    def start_run(self, trainer_state: TrainerState) -> None:
        """Removes the rounds of an earlier call of `train()`."""
        self._set_rounds([], trainer_state)

    def resume_run(self, trainer_state: TrainerState, selection_state: dict[str, Any]) -> None:
        """Reads the rounds of the checkpoint, including one that is resumed in the middle."""
        self._set_rounds(selection_state["rounds"], trainer_state)

    def prepare_epoch(self, epoch: int) -> None:
        """Selects the picks of the epoch, or reads them from the checkpoint if they were selected before."""
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
        self.sampler.load_round(rows, np.asarray(current["nearest_targets"], dtype=np.int64))

    def _set_rounds(self, rounds: list[dict[str, Any]], trainer_state: TrainerState) -> None:
        self.rounds = [dict(one) for one in rounds]
        self._warn_about_other_model()
        self._check_pool_size(trainer_state.num_train_epochs)

    def _select(self, number: int) -> dict[str, Any]:
        trained_rows = [*self.options.already_selected, *(row for one in self.rounds for row in one["picks"])]
        rows = self._rows_to_embed(number, trained_rows)  # (R,), ascending
        is_whole_pool = len(rows) == len(self.options.pool)
        pool = self.options.pool if is_whole_pool else self.options.pool.select(rows)
        embedder = _TimedEmbedder(self.selector.embedder)
        selector = copy.copy(self.selector)
        selector.embedder = embedder  # type: ignore[assignment]  # a virtual subclass of `Embedder`
        selector.larger_pool = None if is_whole_pool else LargerPool(rows, self._pool_wording)
        selector.store, selector.pool_memory = self._round_store(embedder), PoolMemory()  # the model has changed
        model: Any = self.trainer.model
        with preserve_training_state(model, [self.sampler.seed, number]):
            selection = selector.select(
                pool,
                self.options.targets,
                self.options.examples_per_round,
                constraints=self.options.round_constraints(rows),
                already_selected=np.searchsorted(rows, trained_rows).tolist(),
                quality=self.options.round_quality(rows),
                target_weights=self.options.numbers.target_weights,
            )
        nearest = nearest_targets_of(selection)
        result = np.stack([rows[selection.indices], np.zeros(len(selection)) if nearest is None else nearest])  # (2, n)
        # All processes select the same rows; those of the first process are used in case a last bit differs.
        picks, targets = distributed.broadcast_from_first(torch.from_numpy(result.astype(np.int64))).tolist()
        self._log(number, selection, embedder.seconds())
        return {"picks": picks, "nearest_targets": targets}

    @functools.cached_property
    def _pool_wording(self) -> frozenset[tuple[str, ...]]:
        """The wording that many rows of the whole pool share, of which a round sees some rows only."""
        return pool_wording(self.options.pool, self.options.targets)

    def _round_store(self, embedder: _TimedEmbedder) -> Store:
        """Returns where the features of a round are kept.

        The default cache keeps those of frozen embedders only: the weights in training are never the same again, and
        every round would add features of the whole pool to it.
        """
        store = self.selector.store
        model: Any = self.trainer.model
        if not isinstance(store, FeatureCache):
            return store
        if shares_weights(self.selector.embedder, model):
            embedder.default_cache = False
        shortlist = self.selector.shortlist
        is_live = shortlist is not None and shortlist.embedder is not None and shares_weights(shortlist.embedder, model)
        return None if is_live else store

    def _rows_to_embed(self, number: int, trained_rows: list[int]) -> np.ndarray:
        """Returns the candidates of a round and the rows trained on, which the selection is conditioned on."""
        candidates = self.options.available_rows(trained_rows)
        num_candidates = self.options.candidates_per_round
        if num_candidates is not None and num_candidates < len(candidates):
            random_source = np.random.default_rng([self.sampler.seed, number])
            candidates = random_source.choice(candidates, num_candidates, replace=False)
        return np.union1d(candidates, np.asarray(trained_rows, dtype=np.int64))

    def _log(self, number: int, selection: Selection, seconds: tuple[float, float]) -> None:
        from transformers import Trainer

        logs = {
            "itl/round": number,
            "itl/gain": float(selection.gains.sum()),
            "itl/target_variance": float(selection.target_variance[-1].mean()),
            "itl/embedding_seconds": round(seconds[0], 3),
            "itl/selection_seconds": round(seconds[1], 3),
        }
        # Not `trainer.log`: TRL's would add the averages of its own metrics since the last log entry and reset them.
        Trainer.log(self.trainer, logs)

    def _check_pool_size(self, num_rounds: int) -> None:
        num_available = len(self.options.available_rows(list(self.options.already_selected)))
        num_picks = self.options.examples_per_round * (1 if self.options.constraints.replace else num_rounds)
        if num_picks > num_available:
            raise ValueError(
                f"{num_rounds} rounds (one for each epoch) of {self.options.examples_per_round} picks need {num_picks} "
                f"rows, but the pool has {num_available} to pick from. Use fewer epochs, fewer examples_per_round, a "
                "larger pool, or constraints=SelectionConstraints(replace=True) to let rows be picked again."
            )

    def _warn_about_other_model(self) -> None:
        """Warns once if the selector's embedder does not hold the model in training."""
        model: Any = self.trainer.model
        answer = True if self._has_warned else shares_weights(self.selector.embedder, model)
        if answer:
            return
        self._has_warned = True
        what_it_holds = "another model object than" if answer is False else "no model that could be found, at least not"
        warnings.warn(
            f"The selector's embedder ({type(self.selector.embedder).__name__}) holds {what_it_holds} the one in "
            f"training ({type(model).__name__}), so later rounds would pick as if nothing had been learned. Build it "
            "on the live model: Selector(HiddenStates(trainer.model, tokenizer=trainer.processing_class)).",
            stacklevel=5,
        )


@Embedder.register
class _TimedEmbedder:
    """Forwards to an embedder and records when its last call returned; the time after it is that of the selection."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self.default_cache: bool | None = embedder.default_cache
        self._start_time = self._end_time = time.perf_counter()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._embedder, name)
        if not callable(value):
            return value

        def call_and_record(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            finally:
                self._end_time = time.perf_counter()

        timed_method: Callable[..., Any] = call_and_record
        return timed_method

    @property
    def wrapped_embedder(self) -> Any:
        """The embedder, whose class says whether features may be kept in the default cache."""
        return self._embedder

    def for_targets(self, targets: Any) -> _TimedEmbedder:
        """Forwards to the embedder for these targets from now on."""
        self._embedder = self._embedder.for_targets(targets)
        return self

    def seconds(self) -> tuple[float, float]:
        """Returns the seconds of embedding, with reading rows and the store, and of the selection until now."""
        return self._end_time - self._start_time, time.perf_counter() - self._end_time


def _shorten_exclusion(constraints: dict[str, Any]) -> dict[str, Any]:
    """Returns the constraints with a digest in place of the excluded rows, which may be many."""
    if "exclude" not in constraints:
        return constraints
    return {**constraints, "exclude": rows_digest(np.asarray(constraints["exclude"], dtype=np.int64))}
