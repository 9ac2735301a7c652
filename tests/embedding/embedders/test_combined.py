"""The kernel of combined features is the weighted sum of the parts' kernels."""

from __future__ import annotations

import json
import warnings

import datasets
import numpy as np
import pytest
import torch

from itl_hf import Embedder
from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.embedders.combined import Combined
from itl_hf.embedding.embedders.gradients import Gradients
from itl_hf.embedding.embedders.hidden_states import HiddenStates
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.selector import Selector
from tests.embedding.fakes import HashEmbedder
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

ROWS = [{"text": f"{text} {number}"} for number in range(3) for text in SENTENCES]


class Fixed(Embedder):
    """Given features, without `prepare`, as a user's own class may be."""

    dimension = 0

    def __init__(self, features, **columns):
        self.features, self.columns = torch.as_tensor(features, dtype=torch.float32), columns
        self.dimension = self.features.shape[1]

    def fingerprint(self):
        return {"embedder": "fixed"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        features = self.features[[first_row + i for i in range(len(rows))]]
        return Embedded(features, self.columns) if self.columns else features


def cosines(features):
    unit = torch.nn.functional.normalize(features.double())
    return unit @ unit.T


def kernel(features):
    return features.double() @ features.double().T


@pytest.fixture(scope="module")
def views():
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    hidden = HiddenStates(model, tokenizer=tokenizer, layer=2)
    gradients = Gradients(model, tokenizer=tokenizer, labels="predicted", dimension=64, rank=8)
    return hidden, gradients


def test_the_kernel_is_the_weighted_sum_of_the_parts_cosines(views):
    weights = [0.3, 2.0, 1.5]
    parts = [*views, HashEmbedder()]
    features = Combined(parts, weights).embed(ROWS)
    own = [part.embed(ROWS) for part in parts]
    own = [each.features if isinstance(each, Embedded) else each for each in own]
    expected = sum(weight * cosines(each) for weight, each in zip(weights, own, strict=True))
    assert features.dtype == torch.float32
    assert features.shape == (len(ROWS), sum(part.dimension for part in parts))
    assert (kernel(features) - expected).abs().max() < 1e-6
    assert (kernel(features).diagonal() - 3.8).abs().max() < 1e-6
    equal = sum(cosines(each) for each in own)
    assert (kernel(Combined(parts).embed(ROWS)) - equal).abs().max() < 1e-6
    assert (equal - expected).abs().max() > 0.1


def test_without_unit_norm_it_is_the_sum_of_their_own_kernels():
    one, two = Fixed([[3.0, 4.0], [1.0, 0.0]]), Fixed([[0.5], [2.0]])
    features = Combined([one, two], [2, 10], unit_norm=False).embed(ROWS[:2])
    expected = 2 * kernel(one.features) + 10 * kernel(two.features)
    assert (kernel(features) - expected).abs().max() < 1e-5


def test_a_row_of_zeros_stays_zero():
    features = Combined([Fixed([[0.0, 0.0], [3.0, 4.0]]), Fixed([[2.0], [1.0]])]).embed(ROWS[:2])
    assert torch.allclose(features, torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.8, 1.0]]))


def test_columns_have_the_numbers_of_their_parts():
    def column(*values):
        return torch.tensor(values)

    one = Fixed([[3.0, 4.0], [1.0, 0.0]])
    two = Fixed([[1.0], [1.0]], tokens=column(5, 6), norm=column(7.0, 8.0), loss=column(0.1, 0.2))
    three = Fixed([[1.0], [2.0]], tokens=column(9, 9))
    both = Combined([one, two, three])
    columns = both.embed_prepared(both.prepare(ROWS[:2])).columns
    values_by_name = {name: values.tolist() for name, values in columns.items()}
    assert values_by_name == {
        "tokens": [5, 6],
        "part0.norm": [5.0, 1.0],
        "part1.norm": [7.0, 8.0],
        "part1.loss": pytest.approx([0.1, 0.2]),
        "part2.norm": [1.0, 2.0],
    }


def test_the_fingerprint_is_that_of_all_parts():
    def fingerprint(*arguments, **options):
        return Combined(*arguments, **options).fingerprint()

    parts = [HashEmbedder(a=1), HashEmbedder(b=2)]
    base = fingerprint(parts)
    assert json.loads(json.dumps(base)) == base
    assert not any(isinstance(value, dict | list) for value in base.values())
    assert base["part0.a"] == 1
    assert base["part1.b"] == 2
    others = [
        fingerprint(parts[::-1]),
        fingerprint(parts, [1, 2]),
        fingerprint(parts, unit_norm=False),
        fingerprint([*parts, HashEmbedder()]),
        fingerprint([HashEmbedder(a=1), HashEmbedder(b=3)]),
        fingerprint([Combined(parts), HashEmbedder()]),
    ]
    texts = [json.dumps(each, sort_keys=True) for each in [base, *others]]
    assert len(set(texts)) == len(texts)
    assert fingerprint(parts, [1.0, 1.0]) == base


def test_every_part_checks_and_reports(views):
    hidden = HiddenStates(views[0].backbone.model, tokenizer=tiny_tokenizer(), max_length=4)
    both = Combined([HashEmbedder(), hidden])
    with pytest.raises(ValueError, match="row 9"):
        both.check([{"text": " "}], 9)
    with pytest.warns(UserWarning, match=r"longer than max_length=4"):
        both.embed(ROWS[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both.embed(ROWS[:2], on_rows=lambda count: None)  # whoever follows reports at the end
    with pytest.warns(UserWarning, match=r"longer than max_length=4"):
        both.report_truncation()


def test_progress_counts_each_row_once(views):
    counts = []
    Combined([*views, HashEmbedder()]).embed(ROWS, on_rows=counts.append)
    assert sum(counts) == len(ROWS)


def test_its_storage_dtype_is_as_precise_as_its_parts_need():
    one, two = HashEmbedder(), HashEmbedder()
    one.storage_dtype = "float16"
    assert Combined([one, two]).storage_dtype == "float32"
    two.storage_dtype = "float16"
    assert Combined([one, two]).storage_dtype == "float16"


def test_the_driver_stores_it(views, tmp_path):
    both = Combined([views[0], HashEmbedder()], [1, 3])
    stored_features = embed(datasets.Dataset.from_list(ROWS), both, tmp_path / "store", shard_rows=4)
    np.testing.assert_allclose(np.asarray(stored_features), both.embed(ROWS).numpy(), atol=1e-6)


def share_of_the_first(weights, standardize):
    """The first part's share of the variance, after selection's preparation."""
    generator = torch.Generator().manual_seed(0)
    parts = [Fixed(torch.randn(200, width, generator=generator)) for width in (5, 15)]
    both = Combined(parts, weights)
    features = both.embed([{"text": "x"}] * 200)
    preparation = Standardization.parse(standardize) if standardize else both.preparation
    rows = torch.cat([rows for _, rows in Pool(features, preparation).blocks()])
    spread = rows.var(0)
    return float(spread[:5].sum() / spread.sum())


def test_which_preparation_keeps_the_weights():
    # One factor for all columns keeps them, a factor for each does not unless it knows of the parts.
    assert share_of_the_first([4, 1], None) == pytest.approx(0.8, abs=0.02)
    assert share_of_the_first([1, 1], "scale") == pytest.approx(0.5, abs=0.02)
    assert share_of_the_first([4, 1], "scale-unit") == pytest.approx(0.8, abs=0.02)
    assert share_of_the_first([4, 1], "dimensions") == pytest.approx(5 / 20, abs=0.02)


def test_a_selector_accepts_it(views):
    selection = Selector(Combined(views, [3, 1]), kernel="linear").select(ROWS, SENTENCES[:2], 3)
    assert len(selection) == 3
    assert selection.record.standardization_name.startswith("dimensions-unit (32 dimensions weigh 3")
    assert selection.record.embedder["part0.embedder"] == "hidden_states"
    assert selection.record.embedder["part1.embedder"] == "gradients"


def test_bad_arguments():
    parts = [HashEmbedder(), HashEmbedder()]
    with pytest.raises(ValueError, match="two or more embedders, got 1"):
        Combined(parts[:1])
    with pytest.raises(ValueError, match="2 embedders need as many weights, got 3"):
        Combined(parts, [1, 1, 1])
    for weight in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"positive and finite, got .* for part 1"):
            Combined(parts, [1, weight])
