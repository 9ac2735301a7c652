import pytest
import torch

from itl_hf.embedding.embedders.pooling import (
    POOLINGS,
    parts_of,
    pool,
    pooling_weights,
    resolve_layer,
    resolve_layers,
    resolve_poolings,
    span_positions,
)
from itl_hf.text import Tokens


def test_pool_ignores_padding_even_if_nan():
    hidden = torch.full((2, 4, 3), torch.nan)
    hidden[0, 1:3] = torch.tensor([[1.0], [4.0]])
    hidden[1, :1] = 7.0
    span = torch.tensor([[False, True, True, False], [True, False, False, False]])
    assert pool(hidden, span, "mean")[:, 0].tolist() == [2.5, 7.0]
    assert pool(hidden, span, "weighted_mean")[:, 0].tolist() == [3.0, 7.0]
    assert pool(hidden, span, "last")[:, 0].tolist() == [4.0, 7.0]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pool_accumulates_in_float32(pooling):
    hidden = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    features = pool(hidden, torch.ones(1, 4096, dtype=torch.bool), pooling)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, torch.ones(1, 1))


def test_several_poolings_are_concatenated():
    hidden = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    span = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]).bool()
    together = pool(hidden, span, ["last", "weighted_mean"])
    expected = torch.cat([pool(hidden, span, "last"), pool(hidden, span, "weighted_mean")], 1)
    torch.testing.assert_close(together, expected)


def test_last_is_exact_next_to_huge_values():
    hidden = torch.tensor([[[1e30], [3.0]]])
    assert pool(hidden, torch.tensor([[True, True]]), "last").item() == 3.0


def test_weights_by_hand():
    span = torch.tensor([[False, True, True, True]])
    assert pooling_weights(span, "mean").tolist() == [[0, *[pytest.approx(1 / 3)] * 3]]
    assert pooling_weights(span, "weighted_mean").tolist() == [[0, *map(pytest.approx, (1 / 6, 2 / 6, 3 / 6))]]
    assert pooling_weights(span, "last").tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("span", "skip", "expected"),
    [
        ("prompt", 0, "110000"),
        ("prompt", 1, "010000"),
        ("prompt", 2, "010000"),  # nothing else is left
        ("completion", 0, "001100"),
        ("completion", 1, "001100"),
        ("completion", 3, "000100"),
        ("whole", 0, "111100"),
        ("whole", 2, "001100"),
        ("whole", 9, "000100"),
    ],
)
def test_span_positions(span, skip, expected):
    row = Tokens([5, 6, 7, 8], prompt_length=2)
    positions = span_positions([row], span, 6, skip)
    assert "".join(str(int(inside)) for inside in positions[0]) == expected


def test_an_empty_span_stays_empty():
    assert not span_positions([Tokens([5, 6], prompt_length=2)], "completion", 3, skip_tokens=1).any()


def test_parts_cover_a_row_once():
    parts = parts_of([3, 1], ["mean", "last"], [4, 4])
    assert [part.columns for part in parts] == [slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 16)]
    assert [(part.layer, part.pooling) for part in parts] == [(3, "mean"), (3, "last"), (1, "mean"), (1, "last")]


@pytest.mark.parametrize(
    ("layer", "expected"), [(0.75, 22), (1.0, 30), (0.01, 0), (0.1, 3), (30, 30), (-1, 30), (-31, 0)]
)
def test_resolve_layer(layer, expected):
    assert resolve_layer(layer, 30) == expected
    assert resolve_layers(layer, 30) == (expected,)


def test_resolve_layer_is_robust_to_rounding():
    assert resolve_layer(0.29, 100) == 29


@pytest.mark.parametrize("layer", [31, -32, 0.0, 1.5, -0.5, True, "last", float("nan"), None, (), [3, 3], [0.5, 15]])
def test_bad_layers(layer):
    with pytest.raises((ValueError, TypeError), match="layer"):
        resolve_layers(layer, 30)


@pytest.mark.parametrize("pooling", ["max", [], ["mean", "max"], ["last", "last"]])
def test_bad_poolings(pooling):
    with pytest.raises(ValueError, match="pooling"):
        resolve_poolings(pooling)
