"""Training on the picks: a sampler for any PyTorch loop, and `attach` and a mixin for a `transformers.Trainer`; and the
short trainings that come before a selection: `warm_up`, `response_losses`.

Names are imported when first used, because `SelectionSampler` needs PyTorch only while `attach` imports transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = {
    "SelectionSampler": "itl_hf.training.sampler",
    "SelectionTrainerMixin": "itl_hf.training.trainer_mixin",
    "VerlSelectionSampler": "itl_hf.training.verl_sampler",
    "attach": "itl_hf.training.attach_trainer",
    "picks_of": "itl_hf.training.attach_trainer",
    "WarmUpCheckpoint": "itl_hf.training.short_training",
    "WarmUpOptions": "itl_hf.training.short_training",
    "response_losses": "itl_hf.training.short_training",
    "warm_up": "itl_hf.training.short_training",
}
__all__ = [
    "SelectionSampler",
    "SelectionTrainerMixin",
    "VerlSelectionSampler",
    "WarmUpCheckpoint",
    "WarmUpOptions",
    "attach",
    "picks_of",
    "response_losses",
    "warm_up",
]

if TYPE_CHECKING:
    from itl_hf.training.attach_trainer import attach, picks_of
    from itl_hf.training.sampler import SelectionSampler
    from itl_hf.training.short_training import WarmUpCheckpoint, WarmUpOptions, response_losses, warm_up
    from itl_hf.training.trainer_mixin import SelectionTrainerMixin
    from itl_hf.training.verl_sampler import VerlSelectionSampler


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'itl_hf.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
