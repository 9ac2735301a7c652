"""The map: axes from a sample, and more rows than that drawn on them."""

from __future__ import annotations

import numpy as np
import torch

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.selection.result import layout
from itl_hf.selection.result.layout import principal_layout
from itl_hf.selection.result.principal_axes import principal_axes


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


def test_axes_are_those_of_the_singular_value_decomposition():
    rows = torch.randn(300, 12, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -1, 12)
    centre, axes, shares = principal_axes(Pool(rows), list(range(300)))
    torch.testing.assert_close(centre, rows.double().mean(0))
    _, scale, expected = torch.linalg.svd(rows.double() - centre, full_matrices=False)
    torch.testing.assert_close((expected[:2] @ axes).abs(), torch.eye(2, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares, (scale.square() / scale.square().sum())[:2], atol=1e-4, rtol=0)


def test_what_processes_send_does_not_depend_on_the_number_of_rows(monkeypatch):
    sent = []
    monkeypatch.setattr(distributed, "sum_over_processes", lambda values: sent.append(values.numel()) or values)
    rows = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    principal_axes(Pool(rows), list(range(500)))
    assert sum(sent) < 600
