"""Train on the picks: a sampler for any PyTorch loop, `attach` and a mixin for a `transformers.Trainer`.

Names are imported when first used: `SelectionSampler` needs PyTorch only, and `attach` brings in transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "SelectionSampler": "itl_hf.training.sampler",
    "SelectionTrainerMixin": "itl_hf.training.trainer_mixin",
    "attach": "itl_hf.training.attach_trainer",
    "picks_of": "itl_hf.training.attach_trainer",
}
__all__ = ["SelectionSampler", "SelectionTrainerMixin", "attach", "picks_of"]

if TYPE_CHECKING:
    from itl_hf.training.attach_trainer import attach, picks_of
    from itl_hf.training.sampler import SelectionSampler
    from itl_hf.training.trainer_mixin import SelectionTrainerMixin


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'itl_hf.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
