from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from itl_hf.training.preserve_state import preserve_training_state


def model():
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Sequential(nn.Linear(3, 2)))


def draws():
    return random.random(), float(np.random.random()), torch.rand(3).tolist()  # noqa: NPY002


@pytest.mark.parametrize("fails", [False, True])
def test_random_states_and_the_model_are_restored(fails):
    net = model()
    net[2].eval()  # a part frozen by the user stays as it was
    net[0].weight.requires_grad_(False)
    net[0].bias.grad = torch.ones(3)
    permanent_hook = net[0].register_forward_hook(lambda *_: None)
    calls = []
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    def change_everything():
        net.eval()
        permanent_hook.remove()
        net.register_forward_pre_hook(lambda *_: calls.append(1))
        net.requires_grad_(True)
        net[0].bias.grad = None
        net(torch.randn(1, 3)).sum().backward()
        draws()
        if fails:
            raise RuntimeError("on the way")

    try:
        with preserve_training_state(net, [0]):
            change_everything()
    except RuntimeError:
        assert fails
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == states
    assert [module.training for module in net.modules()] == [True, True, True, False, False]
    assert [parameter.requires_grad for parameter in net.parameters()] == [False, True, True, True]
    assert net[0].bias.grad.tolist() == [1, 1, 1]
    assert [parameter.grad is None for parameter in net.parameters()] == [True, False, True, True]
    assert len(net[0]._forward_hooks) == 1
    net(torch.zeros(1, 3))
    assert calls == [1]  # the one from inside


def test_the_random_states_inside_come_from_the_seed_alone():
    net, random_draws = model(), []
    for outside, seed in ((1, [4, 2]), (2, [4, 2]), (2, [4, 3])):
        torch.manual_seed(outside)
        with preserve_training_state(net, seed):
            random_draws.append(draws())
    assert random_draws[0] == random_draws[1] != random_draws[2]
