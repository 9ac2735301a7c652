"""Rows whose features are all zero or not finite: never picked, and without influence on the picks of the others."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf import Gradients, SelectionConstraints, Selector, select_rows, select_rows_per_target
from itl_hf.embedding.embedders.gradients.sketch import unit_length
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.kernels import RBF
from itl_hf.selection.diagnosis.notices import notices
from tests.tiny_models import tiny_model, tiny_tokenizer

RNG = np.random.default_rng(0)
POOL, TARGETS = RNG.normal(size=(40, 6)), RNG.normal(size=(3, 6))
CASES = {
    "itl": {},
    "vtl": {"acquisition": "vtl", "kernel": "linear"},
    "rbf": {"kernel": RBF(0.5)},
    "whitened": {"standardize": "whiten-4"},
    "scale": {"standardize": "scale"},
    "not standardized": {"standardize": False, "kernel": "linear", "noise_std": 0.1},
    "cosine": {"acquisition": "cosine"},
    "max_similarity": {"acquisition": "max_similarity"},
    "round_robin": {"acquisition": "round_robin"},
    "information_density": {"acquisition": "information_density"},
    "k_center": {"acquisition": "k_center"},
    "less": {"acquisition": "less"},
    "shortlist": {"shortlist": 20},
    "constrained": {"constraints": SelectionConstraints(exclude=[0])},
}


def quietly(select, *args, **options):
    with warnings.catch_warnings(action="ignore"):
        return select(*args, **options)


def with_unusable(bad_rows, kinds):
    """The pool with bad rows in between, and the places of the good ones."""
    pool, places = list(POOL), list(range(len(POOL)))
    for place, kind in zip(bad_rows, kinds, strict=True):
        row = np.zeros(6)
        row[3] = kind
        pool.insert(place, row)
        places.insert(place, -1)
    return np.array(pool), np.array(places)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=5, deadline=None)
@given(
    bad=st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.0, np.nan, np.inf, -np.inf])), min_size=1, max_size=6)
)
def test_picks_and_gains_are_those_without_these_rows(name, bad):
    pool, places = with_unusable(*zip(*bad, strict=True))
    reference = quietly(select_rows, POOL, TARGETS, 8, **CASES[name])
    selection = quietly(select_rows, pool, TARGETS, 8, **CASES[name])
    assert places[selection.indices].tolist() == reference.indices.tolist()
    np.testing.assert_allclose(selection.gains, reference.gains, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(selection.target_variance, reference.target_variance, rtol=1e-6, atol=1e-9)
    counts = {kind: entry["count"] for kind, entry in selection.record.unusable.items()}
    assert sum(counts.values()) == len(bad)
    assert counts.get("zero", 0) == sum(kind == 0 for _, kind in bad)


@pytest.mark.parametrize("acquisition", ["random", "badge", "k_means"])
def test_acquisitions_that_draw_never_pick_them(acquisition):
    pool, places = with_unusable([5, 6, 30], [0.0, np.nan, 0.0])
    selection = quietly(select_rows, pool, TARGETS, 40, acquisition=acquisition)
    assert sorted(places[selection.indices]) == list(range(40))


@pytest.mark.parametrize("num_candidates", [None, 12, 1000])
def test_each_target_gets_the_rows_that_it_gets_without_them(num_candidates):
    pool, places = with_unusable([1, 20, 40], [0.0, np.inf, 0.0])
    options = {"num_candidates": num_candidates, "kernel": "linear"}
    reference = quietly(select_rows_per_target, POOL, TARGETS, 5, **options)
    selection = quietly(select_rows_per_target, pool, TARGETS, 5, **options)
    assert places[selection.indices].tolist() == reference.indices.tolist()


@pytest.mark.parametrize("kernel", ["linear", RBF(0.5)])
def test_what_the_pool_can_teach_is_measured_without_them(kernel):
    pool, places = with_unusable([1, 20, 40], [0.0, np.inf, 0.0])
    bounds = []
    for rows in (POOL, pool):
        selection = quietly(select_rows, rows, TARGETS, 2, kernel=kernel)
        bounds.append(attainable_variance(selection.pool, selection.gp))
    for field in ("irreducible", "whole_pool", "reach", "target_rank", "pool_rank"):
        expected, result = (torch.as_tensor(getattr(one, field), dtype=torch.float64) for one in bounds)
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-7)
    assert (places[bounds[1].nearest] >= 0).all()


def test_the_warning_names_rows_and_reasons():
    with pytest.warns(UserWarning, match=r"1 row\(s\) .* all zeros .*row\(s\) 2\. 1 row\(s\) .* NaN .* row\(s\) 4\."):
        select_rows([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [np.nan, 1.0]], [[1.0, 1.0]], 1)


def test_fewer_rows_than_asked_for_are_picked_if_no_more_are_left():
    pool, _ = with_unusable([3], [0.0])
    with pytest.warns(UserWarning, match="num_examples=41, but only 40 rows"):
        assert len(select_rows(pool, TARGETS, 41)) == 40


def test_rows_that_were_trained_on_and_are_unusable_change_nothing():
    pool, _ = with_unusable([3, 9], [0.0, np.nan])
    known = quietly(select_rows, pool, TARGETS, 5, already_selected=[3, 9, 12])
    assert known.indices.tolist() == quietly(select_rows, pool, TARGETS, 5, already_selected=[12]).indices.tolist()


def test_targets_of_zeros_have_no_influence_under_the_linear_kernel():
    reference = select_rows(POOL, TARGETS, 6, kernel="linear", noise_std=0.3)
    with pytest.warns(UserWarning, match=r"1 target\(s\) have features that are all zeros .*: target\(s\) 3\."):
        selection = select_rows(POOL, [*TARGETS, np.zeros(6)], 6, kernel="linear", noise_std=0.3)
    assert selection.indices.tolist() == reference.indices.tolist()
    with pytest.warns(UserWarning, match=r"1 target\(s\)"):
        assert select_rows(POOL, np.zeros((1, 6)), 6, kernel="linear").target_variance.max() == 0


def test_a_row_without_a_label_is_not_picked_and_the_selection_says_so():
    pool = [{"prompt": f"red {word} green", "completion": f" {word}"} for word in ("sum", "two", "three", "five")]
    pool.append({"prompt": "red green", "completion": ""})
    targets = [{"prompt": "the sum", "completion": " five"}]
    selector = Selector(Gradients(tiny_model("llama"), tokenizer=tiny_tokenizer(), dimension=64))
    with pytest.warns(UserWarning, match="never picked"):
        selection = selector.select(pool, targets, 4)
    assert 4 not in selection.indices
    assert selection.record.unusable == {"zero": {"count": 1, "rows": [4]}}
    assert [notice.kind for notice in notices(selection) if "row(s) 4" in notice.text] == ["unusable"]


@settings(max_examples=50, deadline=None)
@given(exponent=st.floats(-45, 38), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_rows_of_any_scale_have_unit_length_or_are_zeros(exponent, dtype):
    direction = torch.tensor([[1.0, -2.0, 0.5]], dtype=dtype)
    rows, norm = unit_length(direction * torch.tensor(10.0, dtype=torch.float64).pow(exponent).to(dtype))
    if bool(rows.any()):
        torch.testing.assert_close(rows, direction / direction.norm(), rtol=1e-5, atol=1e-6)
        assert float(norm.double().log10()) == pytest.approx(exponent + float(direction.norm().log10()), abs=1e-4)
    else:
        assert exponent < -30
        assert float(norm) == 0
