"""What a trainer must be for a selection to be trained on."""

from types import SimpleNamespace

import pytest
import torch

from itl_hf.training.trainer_checks import check_sharding


def trainer(is_sharded, processes):
    args = SimpleNamespace(world_size=processes, device=torch.device("cpu"))
    return SimpleNamespace(is_fsdp_enabled=is_sharded, args=args)


@pytest.mark.parametrize(("is_sharded", "processes"), [(False, 8), (True, 1), (False, 1)])
def test_a_config_that_shards_must_shard(monkeypatch, is_sharded, processes):
    check_sharding(trainer(is_sharded, processes))  # nothing was asked for
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="Set num_processes"):
        check_sharding(trainer(is_sharded, processes))
    check_sharding(trainer(True, 8))
