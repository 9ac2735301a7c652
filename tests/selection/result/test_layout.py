"""The map: axes from a sample, and more rows than that drawn on them."""

from __future__ import annotations

import numpy as np
import torch

from itl_hf.gp.pool import Pool
from itl_hf.selection.result import layout
from itl_hf.selection.result.layout import principal_layout


def test_rows_beyond_the_sample_lie_on_its_axes(monkeypatch):
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(layout, "SAMPLE_ROWS", 20)
    monkeypatch.setattr(layout, "CHUNK_ROWS", 7)
    drawn = principal_layout(Pool(rows), rows[:2].double(), [3, 48])
    assert drawn.pool_rows.tolist() == list(range(50))
    np.testing.assert_allclose(drawn.picks, drawn.pool[[3, 48]], atol=1e-6)
    np.testing.assert_allclose(drawn.targets, drawn.pool[:2], atol=1e-6)
    monkeypatch.setattr(layout, "SHOWN_ROWS", 30)
    fewer = principal_layout(Pool(rows), rows[:2].double(), [3, 48])
    np.testing.assert_allclose(fewer.pool, drawn.pool[fewer.pool_rows], atol=1e-6)
    assert len(fewer.pool_rows) == 30


def test_every_row_of_a_pool_that_is_drawn_whole_is_there_once():
    numbers = layout.spaced_rows(layout.SHOWN_ROWS, layout.SHOWN_ROWS)
    assert numbers == list(range(layout.SHOWN_ROWS))
