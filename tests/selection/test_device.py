"""Selection on a device that is not the CPU: the same picks, nothing mixed, and few waits of the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf import SelectionConstraints, Selector, select_rows
from itl_hf.gp import pool as pool_module
from itl_hf.gp.pool import BLOCK_ROWS, GPU_BLOCK_ROWS, LEAST_BLOCKS, device_block_rows
from itl_hf.search import speculation
from itl_hf.selection import large_pools
from itl_hf.selection.per_target import select_rows_per_target
from tests import pretend_device
from tests.pretend_device import DeviceFault, pretend, put
from tests.selection.shortlist.embedders import CountingEmbedder

POOL = torch.randn(1500, 16, generator=torch.Generator().manual_seed(0))
TARGETS = POOL[:3] + 0.1
NUMBERS = list(range(1500))
OPTIONS = {
    "default": {},
    "linear": {"kernel": "linear"},
    "laplace": {"kernel": "laplace"},
    "shortlist": {"shortlist": 40},
    "rows known before": {"already_selected": [1, 2, 5]},
    "features known before": {"already_selected": POOL[10:14]},
    "quality": {"quality": [0.5 + 0.5 * (n % 2) for n in NUMBERS]},
    "weights": {"target_weights": [1.0, 2.0, 3.0]},
    "measured noise": {"noise_std": "measured"},
    "groups": {"constraints": SelectionConstraints(groups=[n % 3 for n in NUMBERS], group_shares=0.5)},
    "budget": {"constraints": SelectionConstraints(costs=[1.0 + n % 4 for n in NUMBERS], token_budget=12)},
    "again": {"constraints": SelectionConstraints(replace=True, exclude=[0, 7])},
}
OBJECTIVES = ["itl", "vtl", "mean_marginal_itl", "ctl", "undirected"]
BASELINES = [
    *("cosine", "max_similarity", "round_robin", "information_density", "badge", "k_center", "k_means"),
    *("less", "less_round_robin", "gist", "unbalanced_transport", "random"),
]
CASES = [
    *((objective, option) for objective in OBJECTIVES for option in OPTIONS),
    *((baseline, "default") for baseline in BASELINES),
    *((baseline, "rows known before") for baseline in ("round_robin", "k_center", "gist")),
]


def options_on(place, name):
    return {key: place(value) if isinstance(value, torch.Tensor) else value for key, value in OPTIONS[name].items()}


@pytest.mark.parametrize(("acquisition", "option"), CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_pool_on_a_device_gives_the_picks_of_the_cpu(acquisition, option):
    expected = select_rows(POOL, TARGETS, 8, acquisition=acquisition, **OPTIONS[option])
    with pretend():
        own = select_rows(put(POOL), put(TARGETS), 8, acquisition=acquisition, **options_on(put, option))
    np.testing.assert_array_equal(own.indices, expected.indices)
    np.testing.assert_allclose(own.gains, expected.gains, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("option", ["default", "linear", "shortlist", "groups", "rows known before"])
@pytest.mark.parametrize("as_pool", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_a_pool_on_the_cpu_is_copied_to_the_device_block_by_block(as_pool, option):
    expected = select_rows(POOL, TARGETS, 8, **OPTIONS[option]).indices
    with pretend():
        own = select_rows(as_pool(POOL), TARGETS, 8, device="cuda", **OPTIONS[option])
    assert own.pool.device == torch.device("cuda", 0)
    np.testing.assert_array_equal(own.indices, expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_map_to_features_of_the_kernel_on_a_device(monkeypatch):
    monkeypatch.setattr(large_pools, "FACTOR_BYTES", 1)
    expected = select_rows(POOL, TARGETS, 5, kernel="rbf", already_selected=[3, 4]).indices
    with pretend():
        own = select_rows(put(POOL), put(TARGETS), 5, kernel="rbf", already_selected=[3, 4]).indices
    np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("num_candidates", [None, 50])
def test_targets_one_by_one_on_a_device(num_candidates, monkeypatch):
    monkeypatch.setattr("itl_hf.selection.per_target.MOST_WHOLE", 100)
    expected = select_rows_per_target(POOL, TARGETS, 3, num_candidates=num_candidates)
    with pretend():
        own = select_rows_per_target(POOL, TARGETS, 3, num_candidates=num_candidates, device="cuda")
    np.testing.assert_array_equal(own.indices, expected.indices)


LIMITS = {
    "none": {},
    "both": {
        "constraints": SelectionConstraints(
            groups=[n % 3 for n in NUMBERS], group_shares=0.5, costs=[1.0 + n % 4 for n in NUMBERS], token_budget=900
        )
    },
}
#: How often the host may wait for the device: for each pick, all of `select_rows` included, and before the first pick.
WAITS_PER_PICK, WAITS_BEFORE = 0.2, 24


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_host_waits_for_few_numbers(kernel, limits, monkeypatch):
    """One read for each run of picks and a few for each pass, over whatever number of blocks and candidates."""
    monkeypatch.setattr(pool_module, "BLOCK_ROWS", 400)
    expected = select_rows(POOL, TARGETS, 256, kernel=kernel, **LIMITS[limits])
    waits = {}
    for num_examples in (8, 256):
        with pretend():
            own = select_rows(put(POOL), put(TARGETS), num_examples, kernel=kernel, **LIMITS[limits])
        waits[num_examples] = sum(pretend_device.SYNCS.values())
        places = pretend_device.SYNCS.most_common(5)
    np.testing.assert_array_equal(own.indices, expected.indices)
    assert waits[256] <= WAITS_PER_PICK * 256, places
    assert waits[8] <= WAITS_BEFORE + 8
    # Copies to the device that wait for it are those of the preparation.
    assert sum(pretend_device.BLOCKING_COPIES.values()) <= WAITS_BEFORE, pretend_device.BLOCKING_COPIES.most_common(5)


@pytest.mark.parametrize("option", ["default", "linear", "groups", "budget", "quality"])
def test_the_number_of_blocks_and_of_steps_between_reads_does_not_change_picks(option, monkeypatch):
    expected = select_rows(POOL, TARGETS, 24, **OPTIONS[option]).indices
    monkeypatch.setattr(pool_module, "BLOCK_ROWS", 400)
    for steps, pass_bytes in ((1, 1), (5, 800 * 512), (64, 2**29)):
        monkeypatch.setattr(speculation, "STEPS_BETWEEN_READS", steps)
        monkeypatch.setattr(pool_module, "PASS_BYTES", pass_bytes)
        with pretend():
            own = select_rows(put(POOL), put(TARGETS), 24, **OPTIONS[option]).indices
        np.testing.assert_array_equal(own, expected)


class OnDevice(CountingEmbedder):
    """An embedder whose model is on a GPU; its features come back to the CPU, as all do."""

    def compute_device(self):
        return "cuda:0"


@pytest.mark.parametrize("embedder", [OnDevice, CountingEmbedder])
def test_a_selector_selects_where_its_embedder_computes(embedder, tmp_path):
    texts = [f"{first} {second} {number}" for first in "abcdef" for second in "ghijk" for number in range(5)]
    pool, targets = [{"text": text} for text in texts], [{"text": "a g 9"}, {"text": "e k 7"}]
    expected = Selector(CountingEmbedder(8)).select(pool, targets, 6)
    device = None if embedder is OnDevice else "cuda"
    with pretend():
        selection = Selector(embedder(8), device=device).select(pool, targets, 6)
        copies = sum(pretend_device.COPIES.values())
        more = selection.extend(3)
        selection.diagnose()
    assert copies > 0
    assert selection.indices.tolist() == expected.indices.tolist()
    assert more.indices.tolist() == expected.extend(3).indices.tolist()


@pytest.mark.parametrize(
    ("device", "words"),
    [("gpu", "name of a device"), ("cuda:99", "such devices"), ("mps", "no float64"), (3.5, "name of a device")],
)
def test_a_device_that_is_not_there_is_refused_early(device, words):
    with pytest.raises(ValueError, match=words):
        select_rows(POOL, TARGETS, 2, device=device)
    with pytest.raises(ValueError, match=words):
        Selector(CountingEmbedder(8), device=device)


def test_blocks_leave_work_for_many_processes_and_do_not_depend_on_them():
    assert device_block_rows(1000) == BLOCK_ROWS
    assert -(-1_000_000 // device_block_rows(1_000_000)) >= LEAST_BLOCKS
    assert device_block_rows(10**9) == GPU_BLOCK_ROWS


def test_the_pretence_refuses_what_cuda_refuses():
    with pretend():
        with pytest.raises(DeviceFault, match="cuda:0 and cpu"):
            put(POOL) @ POOL.T
        with pytest.raises(DeviceFault, match="indexed by one of cuda:0"):
            POOL[put(torch.tensor([1, 2]))]
        with pytest.raises(TypeError, match="numpy"):
            put(POOL).numpy()
        put(POOL).sum().item()
        assert sum(pretend_device.SYNCS.values()) == 1
