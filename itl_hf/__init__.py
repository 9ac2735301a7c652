"""Choose the right data to fine-tune on: information-based transductive learning for Hugging Face models.

The public names are imported when first used, so `import itl_hf` costs nothing and optional packages stay optional.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from itl_hf.version import __version__ as __version__

_HOMES = {
    "ITL": "itl_hf.selection.acquisitions",
    "Cosine": "itl_hf.selection.baselines",
    "Random": "itl_hf.selection.baselines",
    "SelectionArguments": "itl_hf.cli.train_arguments",
    "SelectionConstraints": "itl_hf.selection.constraints",
    "SelectionRecord": "itl_hf.selection.result.record",
    "log_selection": "itl_hf.report.tracking",
    "Avoid": "itl_hf.selection.avoid",
    "Replay": "itl_hf.selection.replay",
    "Shortlist": "itl_hf.selection.shortlist.options",
    "StopWhen": "itl_hf.selection.stop_when",
    "VTL": "itl_hf.selection.acquisitions",
    "select_rows": "itl_hf.selection.select_rows",
    "select_rows_per_target": "itl_hf.selection.per_target",
    "PerTargetSelection": "itl_hf.selection.per_target",
    "RowSelection": "itl_hf.selection.row_selection",
    "Selector": "itl_hf.selection.selector",
    "Selection": "itl_hf.selection.result.selection",
    "Combined": "itl_hf.embedding.embedders.combined",
    "Embedder": "itl_hf.embedding.embedders.base",
    "EndpointEmbedder": "itl_hf.embedding.embedders.endpoint",
    "Gradients": "itl_hf.embedding.embedders.gradients",
    "HiddenStates": "itl_hf.embedding.embedders.hidden_states",
    "SentenceEncoder": "itl_hf.embedding.embedders.sentence_encoder",
    "VectorEmbedder": "itl_hf.embedding.embedders.vectors",
    "embed": "itl_hf.embedding.embed",
    "load_rows": "itl_hf.cli.load_rows",
    "FeatureStore": "itl_hf.embedding.store.feature_store",
    "SelectionTrainerMixin": "itl_hf.training.trainer_mixin",
    "SelectionSampler": "itl_hf.training.sampler",
    "attach": "itl_hf.training.attach_trainer",
}
__all__ = [
    "ITL",
    "VTL",
    "Avoid",
    "Combined",
    "Cosine",
    "Embedder",
    "EndpointEmbedder",
    "FeatureStore",
    "Gradients",
    "HiddenStates",
    "PerTargetSelection",
    "Random",
    "Replay",
    "RowSelection",
    "Selection",
    "SelectionArguments",
    "SelectionConstraints",
    "SelectionRecord",
    "SelectionSampler",
    "SelectionTrainerMixin",
    "Selector",
    "SentenceEncoder",
    "Shortlist",
    "StopWhen",
    "VectorEmbedder",
    "attach",
    "embed",
    "load_rows",
    "log_selection",
    "select_rows",
    "select_rows_per_target",
]

if TYPE_CHECKING:
    from itl_hf.cli.load_rows import load_rows
    from itl_hf.cli.train_arguments import SelectionArguments
    from itl_hf.embedding.embed import embed
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.embedders.combined import Combined
    from itl_hf.embedding.embedders.endpoint import EndpointEmbedder
    from itl_hf.embedding.embedders.gradients import Gradients
    from itl_hf.embedding.embedders.hidden_states import HiddenStates
    from itl_hf.embedding.embedders.sentence_encoder import SentenceEncoder
    from itl_hf.embedding.embedders.vectors import VectorEmbedder
    from itl_hf.embedding.store.feature_store import FeatureStore
    from itl_hf.report.tracking import log_selection
    from itl_hf.selection.acquisitions import ITL, VTL
    from itl_hf.selection.avoid import Avoid
    from itl_hf.selection.baselines import Cosine, Random
    from itl_hf.selection.constraints import SelectionConstraints
    from itl_hf.selection.per_target import PerTargetSelection, select_rows_per_target
    from itl_hf.selection.replay import Replay
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection
    from itl_hf.selection.row_selection import RowSelection
    from itl_hf.selection.select_rows import select_rows
    from itl_hf.selection.selector import Selector
    from itl_hf.selection.shortlist.options import Shortlist
    from itl_hf.selection.stop_when import StopWhen
    from itl_hf.training.attach_trainer import attach
    from itl_hf.training.sampler import SelectionSampler
    from itl_hf.training.trainer_mixin import SelectionTrainerMixin


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'itl_hf' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
