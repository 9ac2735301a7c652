import itertools

import pytest
import torch
from torch import nn

from itl_hf.embedding.embedders.gradients.layers import Layer
from itl_hf.embedding.embedders.gradients.sketch import KroneckerSketch
from tests.embedding.embedders.gradients.dense import dense, kronecker

WIDE = torch.float64


def layer(name, inputs, outputs, group=None):
    return Layer(name, name, group or name, nn.Linear(inputs, outputs), inputs, outputs)


LAYERS = [layer("a.q", 12, 10, "a"), layer("a.k", 12, 3, "a"), layer("b", 5, 10)]


def fold_by_loops(sketch, core):
    """CountSketch as the textbook has it: each entry has a bucket and a sign."""
    size = core.numel()
    loads = -(-size // sketch.dimension)
    name = str(tuple(core.shape))
    order = sketch._order(name, loads * sketch.dimension).tolist()
    signs = sketch._signs("fold", name, torch.zeros(loads * sketch.dimension, dtype=WIDE)).tolist()
    buckets = [0.0] * sketch.dimension
    for place, entry in enumerate(order):
        if entry < size:
            buckets[place % sketch.dimension] += signs[entry] * float(core.flatten()[entry])
    return torch.tensor(buckets, dtype=WIDE)


def by_loops(sketch, layer_gradients):
    """sum_l S_l vec(P_out G P_in'), with every sum written out."""
    total = torch.zeros(sketch.dimension, dtype=WIDE)
    for one, gradient in zip(LAYERS, layer_gradients, strict=True):
        outputs = sketch.outputs(one, torch.eye(one.outputs, dtype=WIDE))  # (d_out, k_out)
        inputs = sketch.columns(one, sketch.inputs(one, torch.eye(one.inputs, dtype=WIDE)))  # (d_in, k_in)
        core = torch.zeros(outputs.shape[1], inputs.shape[1], dtype=WIDE)
        for i, j in itertools.product(range(one.outputs), range(one.inputs)):
            core += gradient[i, j] * torch.outer(outputs[i], inputs[j])
        total += fold_by_loops(sketch, core)
    return total


@pytest.mark.parametrize(("dimension", "rank"), [(7, 8), (16, 4), (100, 8), (5, 100)])
def test_equals_brute_force(dimension, rank):
    sketch = KroneckerSketch(dimension, rank, seed=0)
    layer_gradients = [torch.randn(one.outputs, one.inputs, dtype=WIDE) for one in LAYERS]
    together = sum(dense(sketch, one) @ g.flatten() for one, g in zip(LAYERS, layer_gradients, strict=True))
    torch.testing.assert_close(together, by_loops(sketch, layer_gradients), rtol=1e-10, atol=1e-10)


def test_inner_products_are_unbiased():
    """Over seeds the mean is that of whole gradients, and the noise is of the size that its theory gives."""
    dimension, rank, seeds = 24, 8, 3000
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(one.outputs, one.inputs, generator=generator, dtype=WIDE) for one in LAYERS]
    # Correlated with the first, and the layers of one group with each other: nothing is zero by accident.
    second = [g + torch.randn(g.shape, generator=generator, dtype=WIDE) for g in first]
    second[1] += first[0][:3]
    first[1] += first[0][:3]
    expected = sum((g * h).sum() for g, h in zip(first, second, strict=True))
    estimates = []
    for seed in range(seeds):
        sketch = KroneckerSketch(dimension, rank, seed)
        left, right = torch.zeros(dimension, dtype=WIDE), torch.zeros(dimension, dtype=WIDE)
        for one, g, h in zip(LAYERS, first, second, strict=True):
            inputs = sketch.columns(one, sketch.inputs(one, torch.eye(one.inputs, dtype=WIDE)))
            cores = [sketch.outputs(one, (x @ inputs).T).T[None] for x in (g, h)]
            left, right = left + sketch.fold(cores[0])[0], right + sketch.fold(cores[1])[0]
        estimates.append(left @ right)
    estimates = torch.stack(estimates)
    error = (estimates.mean() - expected) / (estimates.std() / seeds**0.5)
    assert abs(error) < 4
    scale = sum((g * g).sum() for g in first).sqrt() * sum((h * h).sum() for h in second).sqrt()
    assert estimates.std() / scale < 2 * (2 / dimension + 2 / rank + 2 / 2) ** 0.5  # rank 2 on the side of the inputs
    assert abs(expected) > 10 * estimates.std() / seeds**0.5, "the test could not tell a bias of a tenth"


def test_layers_that_share_a_projection_do_not_share_its_noise():
    """What two layers of a group with the very same inputs add to each other's products has mean zero and is small."""
    wide = [layer(name, 32, 16, "a") for name in ("a.q", "a.k")]
    inputs, changes = torch.randn(32, 1, dtype=WIDE), torch.randn(2, 16, 1, dtype=WIDE)
    products = []
    for seed in range(300):
        sketch = KroneckerSketch(4096, 128, seed)  # nothing is projected
        cores = [
            sketch.outputs(one, change.T).T @ sketch.columns(one, inputs.T)
            for one, change in zip(wide, changes, strict=True)
        ]
        products.append(sketch.fold(cores[0][None])[0] @ sketch.fold(cores[1][None])[0])
    expected = changes.prod(0).square().sum() * inputs.pow(4).sum()
    assert 0.5 < torch.stack(products).square().mean() / expected < 2
    # Without signs on the side that they share it would be as if only the other side had been randomised.
    assert changes.prod(0).square().sum() * inputs.square().sum() ** 2 > 5 * expected


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 9), (9, 40), (64, 64)])
def test_projections_have_orthogonal_rows(inputs, outputs):
    sketch = KroneckerSketch(64, 16, seed=0)
    projection = kronecker(sketch, layer("x", inputs, outputs))
    scale = inputs / min(inputs, 4) * outputs / min(outputs, 16)
    torch.testing.assert_close(projection @ projection.T, scale * torch.eye(len(projection), dtype=WIDE))


def test_a_narrow_layer_loses_nothing():
    sketch, narrow = KroneckerSketch(256, 40, seed=0), layer("x", 10, 20)
    g, h = torch.randn(2, 200, dtype=WIDE)
    matrix = dense(sketch, narrow)
    torch.testing.assert_close((matrix @ g) @ (matrix @ h), g @ h)


def test_buckets_are_balanced():
    sketch = KroneckerSketch(10, 8, seed=0)
    features = sketch.fold(torch.eye(64).view(64, 8, 8))  # (64, 10)
    assert (features.count_nonzero(1) == 1).all()
    assert set(features.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert features.count_nonzero(0).max() <= 7


def test_depends_on_seed_name_and_shape_alone():
    torch.manual_seed(1)
    first = dense(KroneckerSketch(32, 8, seed=0), LAYERS[0])
    torch.manual_seed(2)
    other = KroneckerSketch(32, 8, seed=0)
    dense(other, LAYERS[2])  # the order in which layers come does not matter
    assert torch.equal(dense(other, LAYERS[0]), first)
    assert not torch.allclose(dense(KroneckerSketch(32, 8, seed=1), LAYERS[0]), first)
    assert not torch.allclose(dense(other, layer("a.v", 12, 10, "a")), first)
    # The group decides on the projection of inputs, the name on the rest.
    eye = torch.eye(12)
    assert torch.equal(other.inputs(LAYERS[0], eye), other.inputs(LAYERS[1], eye))
    assert not torch.equal(other.inputs(LAYERS[0], eye), other.inputs(layer("a.q", 12, 10, "c"), eye))


def test_known_values():
    """Features on disk stay comparable: another version of the package draws the same matrices."""
    sketch = KroneckerSketch(8, 8, seed=3)
    values = sketch.inputs(LAYERS[0], torch.arange(12, dtype=WIDE))
    core = sketch.fold(torch.arange(1.0, 17).view(1, 4, 4))
    expected = torch.tensor([9.743653219969001, 22.136035452156577], dtype=WIDE)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    assert core.tolist() == [[11.0, 25.0, 12.0, 11.0, -14.0, -9.0, -3.0, -3.0]]
