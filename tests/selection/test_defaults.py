"""Kernel and noise when nobody says: what the rules see, what they say, and that they do their job."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from itl_hf import select_rows
from itl_hf.gp.kernels import RBF, Cosine, Laplace, Linear
from itl_hf.gp.noise import auto_noise_std, effective_rank
from itl_hf.selection import defaults
from itl_hf.selection.defaults import resolve_kernel_spec

KERNELS = [Linear(), Cosine(), RBF(0.3), RBF(0.6), RBF(0.7, on="distance"), Laplace(0.8)]


def clusters(seed, counts, copies, spread=0.5, edit=0.03, dimension=48):
    """A pool of clusters whose first two rows are repeated with small edits, and targets from the first clusters.

    Returns features, cluster and original of each row, and the targets.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dimension))
    draw = lambda cluster, count: centres[cluster] + spread * rng.normal(size=(count, dimension))
    rows = np.concatenate([draw(cluster, 15) for cluster in range(20)])
    originals = np.concatenate([np.arange(300), np.repeat([15 * c + k for c in range(20) for k in (0, 1)], copies)])
    edits = edit * rng.normal(size=(len(originals) - 300, dimension))
    pool = np.concatenate([rows, rows[originals[300:]] + edits])
    targets = np.concatenate([draw(cluster, count) for cluster, count in enumerate(counts)])
    return pool, originals // 15, originals, targets


def unit_targets(seed, count=9, dimension=6):
    rows = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: str(kernel.describe()))
def test_the_noise_depends_on_the_geometry_of_the_targets_alone(kernel):
    targets = unit_targets(0)
    rotation = torch.linalg.qr(unit_targets(1, 6))[0]
    noise_std, rule = auto_noise_std(kernel, targets, 300)
    assert auto_noise_std(kernel, targets @ rotation, 300)[0] == pytest.approx(noise_std, rel=1e-9)
    assert auto_noise_std(kernel, targets.flip(0), 300)[0] == pytest.approx(noise_std, rel=1e-9)
    assert auto_noise_std(kernel, targets.repeat(3, 1), 300)[0] == pytest.approx(noise_std, rel=1e-6)
    assert auto_noise_std(kernel, targets, 1200)[0] == pytest.approx(2 * noise_std, rel=1e-9)  # above its floor
    assert rule.startswith("auto: ")


def test_the_noise_of_orthogonal_targets_in_closed_form():
    """Four targets in directions of their own: n / rank / (e^(1/l) - 1) for RBF, n / rank for the linear kernel."""
    targets = torch.eye(4, dtype=torch.float64)
    assert auto_noise_std(Linear(), targets, 36)[0] == pytest.approx(3)
    rank = effective_rank(targets, RBF(0.3))
    expected = 4000 / rank / (math.exp(1 / 0.3) - 1)
    assert auto_noise_std(RBF(0.3), targets, 4000)[0] ** 2 == pytest.approx(expected)
    # |x - y|^2 = 2 (1 - cos): the same kernel said in the other way takes the same noise.
    same = RBF(math.sqrt(0.3), on="distance")
    assert auto_noise_std(same, targets, 4000)[0] ** 2 == pytest.approx(expected)


def test_a_short_lengthscale_takes_less_noise_and_none_takes_less_than_one():
    targets = unit_targets(2)
    noises = [auto_noise_std(RBF(length), targets, 2000)[0] for length in (0.2, 0.4, 0.6, 0.8)]
    assert noises == sorted(noises)
    assert noises[-1] > noises[0]
    assert auto_noise_std(RBF(0.6), targets, 1)[0] == 1
    assert auto_noise_std(RBF(0.001), targets, 10**6)[0] == 1  # k = 0 off the diagonal


def test_a_kernel_about_which_nothing_is_known_takes_one():
    model = resolve_kernel_spec(lambda rows, others: rows @ others.T, True)
    assert auto_noise_std(model.kernel, unit_targets(3), 10**4)[0] == 1


def test_the_record_says_what_was_chosen_and_why():
    pool, _, _, targets = clusters(0, [6, 3], copies=3)
    record = select_rows(pool, targets, 200).record
    json.dumps(record.to_json())
    assert record.kernel_name == "rbf"
    assert record.kernel_options["lengthscale"] == defaults.AUTO_KERNEL.lengthscale
    assert record.kernel_rule == "auto"
    assert record.standardization_name == "dimensions-unit"
    contrast = math.exp(1 / record.kernel_options["lengthscale"]) - 1
    assert record.noise_std**2 == pytest.approx(200 / record.effective_rank / contrast)
    assert "num_examples / effective rank" in record.noise_rule
    assert f"{1 / (contrast + 1):.3g}" in record.noise_rule
    explicit = select_rows(pool, targets, 5, kernel=RBF(0.2), noise_std=0.5).record
    assert (explicit.kernel_rule, explicit.noise_rule, explicit.noise_std) == ("given", "given", 0.5)


def test_units_and_offsets_of_the_features_do_not_change_the_picks():
    pool, _, _, targets = clusters(1, [6, 3], copies=3)
    rng = np.random.default_rng(0)
    scale, shift = 10 ** rng.uniform(-2, 2, size=48), rng.normal(size=48)
    first = select_rows(pool, targets, 40)
    assert select_rows(pool, targets, 40).indices.tolist() == first.indices.tolist()
    changed = select_rows(scale * pool + shift, scale * targets + shift, 40)
    assert changed.indices.tolist() == first.indices.tolist()
    assert changed.record.noise_std == pytest.approx(first.record.noise_std, rel=1e-9)


@pytest.mark.parametrize("standardize", ["scale-unit", "whiten-20-unit"])
def test_directions_of_the_features_do_not_change_the_picks(standardize):
    """Standardising by dimension looks at dimensions; the other preparations and the rules do not."""
    pool, _, _, targets = clusters(2, [6, 3], copies=3)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(48, 48)))[0]
    first = select_rows(pool, targets, 40, standardize=standardize)
    turned = select_rows(pool @ rotation, targets @ rotation, 40, standardize=standardize)
    assert turned.indices.tolist() == first.indices.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_the_default_covers_every_cluster_without_repeating_itself(seed):
    """Unequal targets, and a pool in which some rows come ten times: what fixed choices get wrong."""
    counts = [12, 6, 3, 2]
    pool, cluster, original, targets = clusters(seed, counts, copies=9)

    def covered(**how):
        picks = select_rows(pool, targets, 40, **how).indices
        return [len(set(original[picks[cluster[picks] == target]])) for target in range(len(counts))]

    default = covered()
    cosine, collapsed = covered(acquisition="cosine"), covered(kernel="linear", noise_std=10.0)
    wandering, linear = covered(kernel="linear", noise_std=1.0), covered(kernel="linear")
    assert min(default) > max(min(cosine), min(collapsed))
    assert min(default) >= max(min(wandering), min(linear))
    assert sum(default) > max(sum(cosine), sum(collapsed), sum(wandering), sum(linear))
