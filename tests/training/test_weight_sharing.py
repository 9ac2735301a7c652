from __future__ import annotations

import functools

import pytest
from torch import nn

from itl_hf.training.weight_sharing import shares_weights


def model():
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Sequential(nn.Linear(3, 2)))


class Holder:
    def __init__(self, thing):
        self.inner = thing


@pytest.mark.parametrize(
    "wrap",
    [
        Holder,
        lambda net: Holder({"deep": [Holder(net)]}),
        lambda net: Holder(net[2]),  # a part is enough: the hidden states of a model are read without its head
        lambda net: Holder(functools.partial(print, net)),
        lambda net: Holder(net.forward),
    ],
    ids=["attribute", "nested", "part", "partial", "method"],
)
def test_a_shared_model_is_found(wrap):
    net = model()
    assert shares_weights(wrap(net), net) is True
    assert shares_weights(wrap(model()), net) is False


def test_none_for_an_embedder_without_a_model():
    assert shares_weights(Holder([1, "two", None]), model()) is None
