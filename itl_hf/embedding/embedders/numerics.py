"""Settings of torch that would change features: they are put aside while a model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def own_precision() -> Iterator[None]:
    """Lets a model compute in the type of its weights: without autocast, and with float32 as the default type.

    Both are often set for training, in the same program; features would depend on it, and their fingerprint would not.
    """
    default = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
