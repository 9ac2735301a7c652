"""Builds a `Selection` from picked row numbers: the rows, the map, the attainable variance, copies, the record."""

from __future__ import annotations

import dataclasses
import functools
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from itl_hf.embedding.reading import RowReading, TextPair
from itl_hf.embedding.row_keys import text_columns
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.shift import Shift, measure_shift
from itl_hf.selection.diagnosis.shift_notice import ShiftRecord
from itl_hf.selection.diagnosis.text_contrast import TextContrast
from itl_hf.selection.feature_arrays import Features, as_rows
from itl_hf.selection.replay import ReplayDraw, replay_rows
from itl_hf.selection.result.coverage import pool_groups
from itl_hf.selection.result.selection import Selection
from itl_hf.selection.result.umap_layout import LayoutName, layout_of
from itl_hf.selection.row_selection import RowSelection
from itl_hf.selection.row_weights import RowNumbers
from itl_hf.selection.screening.screening import screen, warn_of_copies
from itl_hf.selection.shortlist.two_stage import EmbeddedRows, TwoStages
from itl_hf.text import ColumnMapping, TextRows, plain_text
from itl_hf.text.json_feature import as_stored
from itl_hf.text.trained_rows import with_read_columns
from itl_hf.version import __version__


@dataclass(frozen=True)
class SelectionInputs:
    """Everything that a selection is made from.

    Args:
        pool (`Dataset`):
            The N rows of the pool.
        targets (`Dataset`):
            The m target rows.
        pool_reading (`RowReading`):
            What the one pass over the pool's text found.
        target_reading (`RowReading`):
            The same for the targets.
        pool_features (`Features`):
            (N, d) feature rows; (L, d) where only the rows of a shortlist have features.
        target_features (`Features`):
            (m, d) feature rows.
        record_entries (`dict`):
            Fields of `SelectionRecord` that say what was selected from.
        layout (`"pca"` or `"umap"`):
            Kind of the map.
        embedded (`EmbeddedRows`, *optional*):
            The rows of the pool that have features; all of them when left out.
        columns (`ColumnMapping`, *optional*):
            Which column of the pool holds which part of a row.
        shortlist_rows (`np.ndarray`, *optional*):
            (L,) the same row numbers in the order in which they were embedded.
        numbers (`RowNumbers`):
            Quality of the pool's rows and weights of the targets.
        replay (`ReplayDraw`, *optional*):
            Draws rows that are trained on behind the picks.
    """

    pool: Dataset
    targets: Dataset
    pool_reading: RowReading
    target_reading: RowReading
    pool_features: Features
    target_features: Features
    record_entries: dict[str, Any]
    layout: LayoutName = "pca"
    embedded: EmbeddedRows | None = None
    shortlist_rows: np.ndarray | None = None
    columns: ColumnMapping | None = None
    numbers: RowNumbers = field(default_factory=RowNumbers)
    replay: ReplayDraw | None = None

    def of_shortlist(self, stages: TwoStages) -> SelectionInputs:
        """The same inputs with the features of the rows that are embedded by now."""
        embedded = stages.embedded_rows()
        entries = {**self.record_entries, "pool_rows": len(self.pool), "shortlist": stages.record()}
        return dataclasses.replace(
            self,
            pool_features=embedded.features,
            record_entries=entries,
            embedded=embedded,
            shortlist_rows=stages.rows_in_order(),
        )

    def pool_numbers(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers of the pool for places among the rows that have features."""
        return rows if self.embedded is None else self.embedded.rows[rows]

    @property
    def texts(self) -> tuple[list[TextPair], list[TextPair]] | None:
        """The texts of pool and targets where the acquisition reads texts."""
        if self.pool_reading.texts is None or self.target_reading.texts is None:
            return None
        return self.pool_reading.texts, self.target_reading.texts


def assemble(rows: RowSelection, inputs: SelectionInputs, extend_fn: Callable[[int], Selection] | None) -> Selection:
    """Builds the `Selection` of the picked rows: measures what the pool can teach, draws the map, screens for copies.

    Args:
        rows (`RowSelection`):
            The picked rows.
        inputs (`SelectionInputs`):
            What they were picked from.
        extend_fn (`Callable`, *optional*):
            Continues the selection by a number of picks; `None` where it cannot be continued.
    """
    places, picks = rows.indices.tolist(), inputs.pool_numbers(rows.indices)
    attainable = attainable_variance(rows.pool, rows.gp, include=places)
    shift = measure_shift(rows.pool, rows.gp, attainable.nearest)
    layout = layout_of(inputs.layout, rows.pool, rows.gp.targets, places)
    layout = dataclasses.replace(layout, pool_rows=inputs.pool_numbers(layout.pool_rows))
    replay_dataset, replay_record = _replay(rows, inputs)
    rows.pool.release()
    nearest = inputs.pool_numbers(attainable.nearest.cpu().numpy())
    prompts = [plain_text(row)[0] for row in text_columns(inputs.targets)]
    screening = screen(TextRows(inputs.pool, inputs.columns), picks.tolist(), nearest, inputs.pool_reading, prompts)
    warn_of_copies(screening)
    record = dataclasses.replace(
        rows.record,
        **inputs.record_entries,
        **inputs.numbers.record_entries(quality=rows.record.quality, target_weights=rows.record.target_weights),
        attainable={
            "rows": attainable.rows,
            "exact": attainable.exact,
            "pool_effective_rank": attainable.pool_rank,
            "usual_reach": attainable.usual_reach,
        },
        screening=screening.to_record(),
        shift=None if shift is None else _shift_record(shift, inputs).to_json(),
        coverage=pool_groups(inputs.pool, inputs.record_entries.get("constraints", {}).get("groups")),
        replay=replay_record,
    )
    return Selection(
        dataset=picked_rows(inputs.pool, dataclasses.replace(rows, indices=picks), inputs.columns),
        targets=inputs.targets,
        indices=picks,
        gains=rows.gains,
        target_variance=rows.target_variance,
        irreducible=lambda: attainable.irreducible.cpu().numpy(),
        whole_pool=lambda: attainable.whole_pool.cpu().numpy(),
        reach=attainable.reach.cpu().numpy(),
        pool_size=len(inputs.pool),
        record=record,
        layout=layout,
        features=np.asarray(as_rows(inputs.pool_features, "pool")[rows.indices]),
        extend_fn=extend_fn,
        shortlist_rows=inputs.shortlist_rows,
        whole_pool_information=lambda: np.asarray([attainable.whole_pool_information]),
        replay=replay_dataset,
    )


def _replay(rows: RowSelection, inputs: SelectionInputs) -> tuple[Dataset | None, dict[str, Any] | None]:
    """Returns the rows that are trained on behind the picks, and their entry in the record."""
    if inputs.replay is None:
        return None, None
    embedded_rows = None if inputs.embedded is None else inputs.embedded.rows
    numbers = inputs.replay.rows(inputs.pool_numbers(rows.indices), rows, embedded_rows)
    replay_dataset = replay_rows(inputs.pool, numbers, len(rows), inputs.columns)
    return replay_dataset, inputs.replay.to_record(len(replay_dataset))


def _shift_record(shift: Shift, inputs: SelectionInputs) -> ShiftRecord:
    sample_texts = [prompt or completion for prompt, completion in inputs.pool_reading.sample.values()]
    target_texts = [prompt or completion for prompt, completion in inputs.target_reading.sample.values()]
    return ShiftRecord(shift, TextContrast.from_texts(target_texts, sample_texts))


def package_versions() -> dict[str, str]:
    """Versions of the packages that the picks depend on."""
    return dict(_package_versions())


@functools.cache
def _package_versions() -> dict[str, str]:
    versions = {"itl_hf": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "datasets", "peft"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def picked_rows(pool: Dataset, rows: RowSelection, mapping: ColumnMapping | None = None) -> Dataset:
    """Returns the picked rows in their order, with the columns that say why each was picked.

    Where users named columns, those that were read are there as well.
    """
    nearest = rows.similarity.argmax(1)
    columns = {
        "pool_index": rows.indices,
        "itl_rank": np.arange(1, len(rows) + 1),
        "itl_gain": rows.gains,
        "itl_nearest_target": nearest,
        "itl_similarity": rows.similarity[np.arange(len(rows)), nearest],
    }
    table = pool.select(rows.indices).with_format("arrow")[:]  # few rows: in memory, without files or progress bars
    table = as_stored(Dataset(table.replace_schema_metadata(pool.features.arrow_schema.metadata)))
    table = with_read_columns(table, mapping)
    added_columns = Dataset.from_dict({name: values.tolist() for name, values in columns.items()})
    return as_stored(concatenate_datasets([table, added_columns], axis=1))
