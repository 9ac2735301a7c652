"""The protocol of acquisitions: what they get (`SelectionRequest`) and what they return (`GreedyPicks`).

Acquisitions that rank rows without a Gaussian process end in `picks_in_order`. It takes the available rows in order,
starts again from the first if rows may be picked again, and measures the information that the picks give about the
targets, so that the gains of all acquisitions can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import Quality, each, select
from itl_hf.objectives.base import Objective
from itl_hf.objectives.itl import ITL
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import ProjectionCache
from itl_hf.search.exactness import check_noise
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.limits import Limits

Noise = float | Literal["auto", "measured"]
#: The values of `noise_std` that are rules.
NOISE_RULES = ("auto", "measured")
TextSpan = Literal["auto", "prompt", "whole"]
#: What an acquisition reads. `"lengths"` are numbers, costs, or the lengths of texts.
Reads = Literal["features", "raw features", "texts", "lengths"]
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Texts:
    """The rows as text, for acquisitions that read words.

    Args:
        pool (`list[tuple[str, str]]`):
            N pairs (prompt, completion), `""` where there is none.
        targets (`list[tuple[str, str]]`):
            m pairs.
    """

    pool: list[tuple[str, str]]
    targets: list[tuple[str, str]]

    def both(self, span: TextSpan) -> tuple[list[str], list[str]]:
        """Returns the texts of pool and targets.

        `"auto"` includes completions if all targets have one, because only then both sides are the same kind of text.
        """
        whole = span == "whole" or (span == "auto" and all(completion for _, completion in self.targets))
        pool, targets = ([_join(pair, whole) for pair in side] for side in (self.pool, self.targets))
        return pool, targets


@dataclass(frozen=True)
class Raw:
    """Features before preparation, for acquisitions whose formulas centring and scaling would change.

    Args:
        targets (`Tensor`):
            (m, d).
        observed_rows (`Tensor`):
            (h, d), the rows of `SelectionRequest.observed_rows`.
    """

    targets: Tensor
    observed_rows: Tensor


@dataclass(frozen=True)
class SelectionRequest:
    """The arguments of `Acquisition.pick`.

    Args:
        availability (`AvailabilityTracker`):
            Number of rows to pick, budget and group shares.
        replace (`bool`):
            Whether a row may be picked again.
        observed_rows (`Tensor`):
            (h, d) prepared rows that were trained on before; the posterior starts from them.
        exclude (`Sequence[int]`):
            Pool rows that may not be picked.
        on_picks (`Callable`, *optional*):
            Called with the number of further picks, for a progress bar.
        stop (`Callable`, *optional*):
            Called with the objective and the gains so far. It returns how many picks to keep if the selection ends
            there, otherwise `None`.
        texts (`Texts`, *optional*):
            The rows as text, if they were passed.
        raw (`Raw`, *optional*):
            Features before preparation.
        progress (`bool`):
            Whether to show progress bars.
        num_continued (`int`):
            Picks of the selection that this one continues, for acquisitions that take turns: the rows in
            `already_selected` that may not be picked again.
        observed_quality (`Quality`):
            (h,), that of the observed rows.
    """

    availability: AvailabilityTracker
    replace: bool
    observed_rows: Tensor
    exclude: Sequence[int] = ()
    on_picks: Callable[[int], object] | None = None
    stop: Callable[[Objective, list[float]], int | None] | None = None
    texts: Texts | None = None
    raw: Raw | None = None
    progress: bool = False
    num_continued: int = 0
    observed_quality: Quality = 1.0

    def condition(self, objective: Objective) -> Objective:
        """Adds the rows that were trained on before to an objective, and returns it."""
        qualities = each(self.observed_quality, len(self.observed_rows))
        for row, quality in zip(self.observed_rows, qualities, strict=True):
            objective.observe(row, quality)
        return objective

    def open_rows(self, num_rows: int) -> Tensor:
        """Returns which rows are not excluded, (N,) bool."""
        free = torch.ones(num_rows, dtype=torch.bool)
        free[list(self.exclude)] = False
        return free


@runtime_checkable
class Acquisition(Protocol):
    """A method of selecting rows. Users name it by `name`; the noises are as in `ITL`.

    An acquisition that reads more than prepared features has a class attribute `reads` (`Reads`). It may have a method
    `used() -> dict` that returns further facts for the record, such as the version of a library, and a method
    `check_sizes(num_rows, num_targets)` that raises `ValueError` if its options are for other numbers of rows. It has
    `weighs_targets = True` if its picks are right for weights of targets (`gp.target_weights`), and
    `uses_quality = True` if they depend on the quality of rows (`pool.quality`).
    """

    @property
    def name(self) -> str:
        """The name by which users select it."""

    @property
    def noise_std(self) -> Noise:
        """Standard deviation of the noise of the picks' answers, `"auto"` or `"measured"`."""

    @property
    def target_noise_std(self) -> float | None:
        """Standard deviation of the noise of the targets' values; `None` for that of the picks."""

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Returns row numbers in the order picked, and the gain of each."""


def reads(acquisition: Acquisition) -> Reads:
    """Returns what the acquisition reads."""
    kind: Reads = getattr(acquisition, "reads", "features")
    return kind


def check_sizes(acquisition: Acquisition, num_rows: int, num_targets: int) -> None:
    """Raises `ValueError` if options of the acquisition that hold one value a row are of another length."""
    getattr(acquisition, "check_sizes", lambda *sizes: None)(num_rows, num_targets)


def resolve_texts(
    acquisition: Acquisition,
    texts: tuple[Sequence[Text], Sequence[Text]] | None,
    sizes: tuple[int, int],
    has_costs: bool,
) -> Texts | None:
    """Checks the texts of pool and targets.

    Args:
        acquisition (`Acquisition`):
            The acquisition that may need them.
        texts (`tuple[Sequence, Sequence]`, *optional*):
            Those of the pool's rows and those of the targets: strings, or pairs (prompt, completion).
        sizes (`tuple[int, int]`):
            N, m.
        has_costs (`bool`):
            Whether rows have costs, which can be used as lengths.

    Raises:
        `ValueError`: If there are none and the acquisition needs them, one side is missing, or lengths differ.
    """
    if texts is None:
        needs = reads(acquisition)
        if needs == "texts" or (needs == "lengths" and not has_costs):
            other = ", or costs and token_budget, or lengths= on the acquisition" if needs == "lengths" else ""
            raise ValueError(
                f"acquisition {acquisition.name!r} reads {needs}: give texts=(texts of the pool, texts of the targets)"
                f"{other}. Selector gives the texts by itself."
            )
        return None
    if not isinstance(texts, tuple | list) or len(texts) != 2 or any(side is None for side in texts):
        raise ValueError("texts must be a pair: the texts of the pool's rows and the texts of the targets, together")
    for name, side, size in (("texts of the pool", texts[0], sizes[0]), ("texts of the targets", texts[1], sizes[1])):
        if isinstance(side, str) or len(side) != size:
            raise ValueError(f"{name} must hold one text for each of {size} rows, got {len(side)}")
    return Texts(_pairs(texts[0], "texts of the pool"), _pairs(texts[1], "texts of the targets"))


def reads_text(acquisition: Acquisition) -> bool:
    """Whether the acquisition can use the rows' texts."""
    return reads(acquisition) in ("texts", "lengths")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises `ValueError` unless an argument is a whole number of at least `least` that fits into 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        bound = " and less than 2**63" if isinstance(value, int) and value >= 2**63 else ""
        raise ValueError(f"{name} must be a whole number of at least {least}{bound}, got {value!r}")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raises `ValueError` unless an argument is one of a `Literal`'s values."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {get_args(choices)}, got {value!r}")


def in_order(rows: Tensor, availability: AvailabilityTracker, picks: Sequence[int] = ()) -> list[int]:
    """Returns `picks` followed by the first available rows of an order, (N,) -> n row numbers."""
    rows_in_order = list(picks)
    if not availability.is_constrained:
        return rows_in_order + rows[: availability.num_examples - len(rows_in_order)].tolist()
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        while len(part) and len(rows_in_order) < availability.num_examples:
            part = part[open_among(part, availability)]
            before = len(rows_in_order)
            for row in part.tolist():  # until a row no longer fits; then all such rows are removed
                if len(rows_in_order) == availability.num_examples or not is_open(row, availability):
                    break
                availability.record_pick(row)
                rows_in_order.append(row)
            part = part[len(rows_in_order) - before :]
    return rows_in_order


def open_among(rows: Tensor, availability: AvailabilityTracker) -> Tensor:
    """Returns which of these rows are available, (B,) row numbers -> (B,) bool."""
    is_open_row = Limits(availability).open_rows(rows)
    return torch.ones(len(rows), dtype=torch.bool) if is_open_row is None else is_open_row


def is_open(row: int, availability: AvailabilityTracker) -> bool:
    """Whether this row is available."""
    return not availability.is_constrained or bool(open_among(torch.tensor([row]), availability))


def picks_in_order(
    order: Tensor | Sequence[int], pool: Pool, gp: GaussianProcess, request: SelectionRequest
) -> GreedyPicks:
    """Picks the first available rows of an order, (N,), and measures their gains.

    If rows may be picked again (`replace`), a row is repeated only after all others.
    """
    rows = torch.as_tensor(order, dtype=torch.int64)
    return measure_picks(repeat_picks(in_order(rows, request.availability), request), pool, gp, request)


def repeat_picks(picks: list[int], request: SelectionRequest) -> list[int]:
    """Returns the picks; if rows may be picked again, the same picks are repeated until there are enough."""
    once = torch.tensor(picks, dtype=torch.int64)
    before = 0
    while request.replace and before < len(picks) < request.availability.num_examples:
        before = len(picks)
        picks = in_order(once, request.availability, picks)
    return picks


def measure_picks(indices: list[int], pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
    """Measures picks that were made without a Gaussian process.

    Returns them with the information in nats that each gives about the targets, given those before it, up to the pick
    at which `SelectionRequest.stop` ends the selection.
    """
    objective, rows, quality = request.condition(ITL(gp)), pool.rows(indices), pool.quality_of(indices)
    if indices:
        check_noise(gp.noise_std, gp.target_noise_std, float(gp.kernel.diagonal(rows).max()))
    qualities = each(quality, len(rows))
    stats, tables = objective.initial_state(rows)
    cache = ProjectionCache(tables, len(objective.posteriors), len(request.observed_rows) + len(indices))
    gains: list[float] = []
    num_applied = 0
    for position, row in enumerate(rows):
        if objective.num_observations > num_applied:
            observations = objective.observations(num_applied, objective.num_observations)
            projections = objective.project(rows, cache.tables(), observations)
            stats, num_applied = objective.update(stats, projections, observations), objective.num_observations
            cache.append(projections)
        column = slice(position, position + 1)
        score = objective.score(stats[:, column], num_applied, select(quality, column))
        gains.append(float(objective.gain(score)))
        objective.observe(row, qualities[position])
    num_kept = request.stop(objective, gains) if request.stop is not None and gains else None
    return GreedyPicks(indices[:num_kept], gains[:num_kept])


def _join(pair: tuple[str, str], whole: bool) -> str:
    prompt, completion = pair
    return f"{prompt}\n{completion}" if whole and completion else prompt


def _pairs(texts: Sequence[Text], name: str) -> list[tuple[str, str]]:
    pairs = [(text, "") if isinstance(text, str) else text for text in texts]
    for row, pair in enumerate(pairs):
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise ValueError(f"{name}: row {row} must be a string or a pair (prompt, completion), got {pair!r:.80}")
    return [(prompt, completion) for prompt, completion in pairs]
