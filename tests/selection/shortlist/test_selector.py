"""`Selector(shortlist=...)`: by the same features, and in two stages, where the second embedder sees the list alone."""

from __future__ import annotations

import functools
import itertools
import json

import numpy as np
import pytest
import torch

from itl_hf import (
    Selection,
    SelectionConstraints,
    SelectionRecord,
    Selector,
    Shortlist,
    StopWhen,
    select_rows,
)
from itl_hf.embedding import embed
from itl_hf.gp.pool import Pool
from itl_hf.hub.contents import picked_features
from itl_hf.report.explorer.explorer_data import gather
from itl_hf.selection import embed_job, kept_features
from itl_hf.selection.defaults import AUTO_STANDARDIZATION
from itl_hf.selection.reselect import check_reselectable
from itl_hf.selection.shortlist import options
from itl_hf.text import as_dataset
from tests.oracle.shortlist import shortlist as brute_force
from tests.selection.shortlist.embedders import CountingEmbedder

FRUITS = ("apple", "banana", "cherry", "quince", "melon", "plum")
PLACES = ("river", "stone", "cloud", "window", "garden", "harbour")
VERBS = ("sees", "takes", "paints", "cuts")
POOL = [
    {"prompt": f"{fruit} {verb} {place}", "completion": fruit, "source": fruit, "cost": len(fruit + place)}
    for fruit, place, verb in itertools.product(FRUITS, PLACES, VERBS)
]
TARGETS = [{"prompt": "banana sees gardens"}, {"prompt": "quinces cut cloud"}, {"prompt": "banana took window"}]


@pytest.fixture(autouse=True)
def no_floor(monkeypatch):
    monkeypatch.setattr(options, "FEWEST_EMBEDDED_ROWS", 1)


def cheap():
    return CountingEmbedder(8)


def dear():
    return CountingEmbedder(24, weight=2.0)


def features_of(embedder, rows):
    return embedder.embed(rows).numpy()


def two_stages(size=30, num_examples=10, **options):
    selector = Selector(dear(), shortlist=Shortlist(size, cheap()), **options)
    return selector, selector.select(POOL, TARGETS, num_examples)


def listed(size):
    """The rows on the list by the cheap features, by brute force."""
    pool, targets = Pool(torch.tensor(features_of(cheap(), POOL)), AUTO_STANDARDIZATION), features_of(cheap(), TARGETS)
    rows, anchors = pool.rows(range(len(POOL))).numpy(), pool.prepare(torch.tensor(targets)).numpy()
    return sorted(brute_force(rows, anchors, size))


@pytest.mark.parametrize("size", ["auto", 12, 40, len(POOL)])
def test_one_stage_is_select_rows(size):
    selection = Selector(dear(), shortlist=size).select(POOL, TARGETS, 10)
    rows = select_rows(features_of(dear(), POOL), features_of(dear(), TARGETS), 10, shortlist=size)
    assert selection.indices.tolist() == rows.indices.tolist()
    assert selection.record.shortlist == rows.record.shortlist
    assert selection.shortlist_rows is None


def test_the_second_embedder_embeds_the_list_and_the_targets_only():
    selector, selection = two_stages(30)
    expected = [POOL[row]["prompt"] for row in listed(30)]
    prompts = [target["prompt"] for target in TARGETS]
    assert sorted(selector.embedder.prompts) == sorted([*expected, *prompts])
    assert len(selector.shortlist.embedder.prompts) == len(POOL) + len(TARGETS)
    assert sorted(selection.shortlist_rows) == listed(30)


def test_the_picks_are_those_of_the_list_as_a_pool():
    _, selection = two_stages(30)
    rows = listed(30)
    among = select_rows(features_of(dear(), [POOL[row] for row in rows]), features_of(dear(), TARGETS), 10)
    assert selection.indices.tolist() == np.array(rows)[among.indices].tolist()
    np.testing.assert_array_equal(selection.gains, among.gains)
    assert selection.dataset["pool_index"] == selection.indices.tolist()
    assert selection.dataset["prompt"] == [POOL[row]["prompt"] for row in selection.indices]
    assert selection.pool_size == len(POOL)
    assert set(selection.layout.pool_rows.tolist()) == set(rows)
    np.testing.assert_allclose(selection.features, features_of(dear(), [POOL[row] for row in selection.indices]))


def test_a_list_of_all_rows_is_no_list():
    whole = Selector(dear()).select(POOL, TARGETS, 12)
    _, selection = two_stages(len(POOL), 12)
    assert selection.indices.tolist() == whole.indices.tolist()
    np.testing.assert_array_equal(selection.gains, whole.gains)
    np.testing.assert_array_equal(selection.irreducible, whole.irreducible)
    np.testing.assert_array_equal(selection.layout.pool, whole.layout.pool)


def test_the_record_and_the_diagnosis_say_it(tmp_path):
    _, selection = two_stages(30)
    record = SelectionRecord.from_json(json.loads(json.dumps(selection.record.to_json())))
    assert record == selection.record
    assert (record.pool_rows, record.shortlist["size"], record.shortlist["setting"]) == (len(POOL), 30, 30)
    assert record.shortlist["embedder"] == cheap().fingerprint()
    assert record.embedder == dear().fingerprint()
    diagnosis = selection.diagnose()
    assert "a shortlist of 30 of the 144 rows" in str(diagnosis)
    assert "cheaper features" in str(diagnosis)
    assert not diagnosis.exact
    assert diagnosis.rows_looked_at == 30
    page = selection.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "the choice is exact among these candidates, not over the pool" in page


def test_an_embedder_alone_takes_the_automatic_size(monkeypatch):
    monkeypatch.setattr(options, "FEWEST_EMBEDDED_ROWS", 33)
    for num_examples, size in ((10, 33), (40, 60)):
        selector = Selector(dear(), shortlist=cheap(), store=False)
        selection = selector.select(POOL, TARGETS, num_examples)
        assert selection.record.shortlist["size"] == size
        assert selection.record.shortlist["share"] == options.EMBEDDED_SHARE
        assert len(selector.embedder.prompts) == size + len(TARGETS)


def test_an_embedder_alone_lists_at_least_its_share_of_the_pool(monkeypatch):
    monkeypatch.setattr(options, "EMBEDDED_SHARE", 0.5)
    selection = Selector(dear(), shortlist=cheap(), store=False).select(POOL, TARGETS, 10)
    assert selection.record.shortlist["size"] == len(POOL) // 2


def test_saved_and_loaded_it_is_the_same(tmp_path):
    _, selection = two_stages()
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    assert loaded.record == selection.record
    np.testing.assert_array_equal(loaded.shortlist_rows, selection.shortlist_rows)
    assert str(loaded.diagnose()) == str(selection.diagnose())


def test_stored_features_are_used_again(tmp_path):
    _, first = two_stages(store=tmp_path / "store")
    selector, second = two_stages(store=tmp_path / "store")
    assert selector.embedder.prompts == selector.shortlist.embedder.prompts == []
    assert second.indices.tolist() == first.indices.tolist()


def test_the_cheap_features_are_embedded_and_prepared_once(monkeypatch):
    prepared = []
    real = kept_features.Pool
    monkeypatch.setattr(
        kept_features, "Pool", lambda *arguments: prepared.append(len(arguments[0])) or real(*arguments)
    )
    selector, first = two_stages(store=False)
    others = [{"prompt": "cherry paints harbour"}]
    second = selector.select(POOL, others, 10)
    assert len(selector.shortlist.embedder.prompts) == len(POOL) + len(TARGETS) + len(others)
    assert prepared == [len(POOL), 30, 30]
    for selection, targets in ((first, TARGETS), (second, others), (selector.select(POOL, TARGETS, 10), TARGETS)):
        plain = Selector(dear(), shortlist=Shortlist(30, cheap()), store=False).select(POOL, targets, 10)
        assert selection.indices.tolist() == plain.indices.tolist()
        assert selection.shortlist_rows.tolist() == plain.shortlist_rows.tolist()
        assert selection.record == plain.record
    weighted = selector.select(POOL, TARGETS, 10, quality=[0.5] * 100 + [1.0] * 44)
    plain = Selector(dear(), shortlist=Shortlist(30, cheap()), store=False)
    expected = plain.select(POOL, TARGETS, 10, quality=[0.5] * 100 + [1.0] * 44)
    assert weighted.indices.tolist() == expected.indices.tolist()


def test_an_interrupted_embedding_of_the_list_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(embed_job, "embed", functools.partial(embed, shard_rows=8))
    plain = CountingEmbedder.embed
    calls = []

    def interrupted(self, rows, **options):
        if self.dimension == 24 and len(rows) > len(TARGETS):
            calls.append(len(rows))
            if len(calls) == 3:
                raise KeyboardInterrupt
        return plain(self, rows, **options)

    monkeypatch.setattr(CountingEmbedder, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        two_stages(store=tmp_path / "store")
    monkeypatch.setattr(CountingEmbedder, "embed", plain)
    selector, selection = two_stages(store=tmp_path / "store")
    assert len(selector.embedder.prompts) == 30 - 16
    assert selector.shortlist.embedder.prompts == []
    assert selection.indices.tolist() == two_stages()[1].indices.tolist()


def test_features_of_the_picks_are_read_from_the_store(tmp_path):
    _, selection = two_stages(store=tmp_path / "store")
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    np.testing.assert_array_equal(picked_features(loaded, tmp_path / "store"), selection.features)
    with pytest.raises(ValueError, match="holds no features"):
        picked_features(loaded, tmp_path / "other")


def test_features_of_a_list_that_grew_are_read_from_the_store(tmp_path):
    constraints = SelectionConstraints(groups="source", group_shares={"plum": (0.5, 1.0)})
    selector = Selector(dear(), shortlist=Shortlist(10, cheap()), store=tmp_path / "store")
    selection = selector.select(POOL, TARGETS, 10, constraints=constraints)
    assert sum(source == "plum" for source in selection.dataset["source"]) >= 5
    assert len(selection.record.shortlist["parts"]) > 1
    assert len(selector.embedder.prompts) == len(set(selector.embedder.prompts))
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    np.testing.assert_array_equal(picked_features(loaded, tmp_path / "store"), selection.features)


def test_the_explorer_shows_it_and_says_why_it_cannot_select_again(tmp_path):
    _, selection = two_stages(store=tmp_path / "store")
    data = gather(selection, pool=as_dataset(POOL, "pool"), store=tmp_path / "store")
    assert "shortlist" in data.obstacle
    with pytest.raises(ValueError, match="another embedder"):
        check_reselectable(selection.record)
    one_stage = Selector(dear(), shortlist=30, store=tmp_path / "store").select(POOL, TARGETS, 10)
    assert gather(one_stage, pool=as_dataset(POOL, "pool"), store=tmp_path / "store").obstacle == ""


def test_extending_continues_on_the_list():
    _, long = two_stages(30, 25, noise_std=0.7)
    _, short = two_stages(30, 10, noise_std=0.7)
    extended = short.extend(15)
    assert extended.indices.tolist() == long.indices.tolist()
    assert extended.dataset["pool_index"] == long.indices.tolist()
    with pytest.raises(ValueError, match="only 5 rows are left on the shortlist"):
        extended.extend(6)
    one_stage = Selector(dear(), shortlist="auto", noise_std=0.7).select(POOL, TARGETS, 10)
    assert len(set(one_stage.extend(10).indices.tolist())) == 20


def test_picks_are_conditioned_on_rows_that_were_trained_on():
    known = [3, 77, 140]
    selector = Selector(dear(), shortlist=Shortlist(20, cheap()))
    selection = selector.select(POOL, TARGETS, 8, already_selected=known)
    assert len(selector.embedder.prompts) == 23 + len(TARGETS)
    assert not set(known) & set(selection.indices.tolist())
    rows = sorted(selection.shortlist_rows.tolist())
    assert set(known) <= set(rows)
    among = select_rows(
        features_of(dear(), [POOL[row] for row in rows]),
        features_of(dear(), TARGETS),
        8,
        already_selected=[rows.index(row) for row in known],
    )
    assert selection.indices.tolist() == np.array(rows)[among.indices].tolist()
    again = selector.select(POOL, TARGETS, 8, already_selected=known, constraints=SelectionConstraints(replace=True))
    assert len(again) == 8


@pytest.mark.parametrize(
    "constraints",
    [
        SelectionConstraints(costs="cost", token_budget=60),
        SelectionConstraints(groups="source", group_shares=0.2),
        SelectionConstraints(groups="source", group_shares={"plum": (0.3, 0.5), "banana": (0.0, 0.0)}),
        SelectionConstraints(exclude=["banana sees garden", "quince cuts cloud"]),
        SelectionConstraints(exclude=list(range(100))),
    ],
)
def test_constraints_do_not_end_the_picks_early(constraints):
    selection = Selector(dear(), shortlist=Shortlist(10, cheap())).select(POOL, TARGETS, 10, constraints=constraints)
    if constraints.token_budget is not None:
        spent = sum(selection.dataset["cost"])
        rest = [row["cost"] for number, row in enumerate(POOL) if number not in selection.indices]
        assert spent <= 60
        assert len(selection) == 10 or min(rest) > 60 - spent
        return
    assert len(selection) == 10
    groups = selection.dataset["source"]
    if constraints.group_shares == 0.2:
        assert max(map(groups.count, groups)) <= 2
    elif constraints.group_shares is not None:
        assert 3 <= groups.count("plum") <= 5
        assert "banana" not in groups
    elif constraints.excludes_texts:
        assert not set(constraints.exclude) & set(selection.dataset["prompt"])
    else:
        assert selection.indices.min() >= 100


def test_a_budget_that_fits_nothing_is_an_error_before_the_second_embedder_runs():
    selector = Selector(dear(), shortlist=cheap())
    with pytest.raises(ValueError, match="token_budget=1 allows no row"):
        selector.select(POOL, TARGETS, 5, constraints=SelectionConstraints(costs="cost", token_budget=1))


def test_stopping_early_does_not_make_the_list_longer():
    selector = Selector(dear(), shortlist=Shortlist(20, cheap()))
    stop = SelectionConstraints(stop_when=StopWhen(variance_left=0.9))
    selection = selector.select(POOL, TARGETS, 20, constraints=stop)
    assert 0 < len(selection) < 20
    assert selection.record.shortlist["size"] == 20


def test_other_acquisitions_pick_from_the_list():
    for name in ("vtl", "undirected", "cosine", "k_center", "less"):
        _, selection = two_stages(20, acquisition=name)
        assert set(selection.indices.tolist()) <= set(listed(20))
    for name in ("random", "bm25"):
        with pytest.raises(ValueError, match="does not compare rows by their features"):
            two_stages(20, acquisition=name)


def test_rows_that_either_embedder_refuses_are_an_error_before_any_runs():
    for dimension in (8, 24):
        selector = Selector(dear(), shortlist=Shortlist(20, cheap()))
        rows = [*POOL, {"prompt": f"refused by {dimension}", "completion": "", "source": "", "cost": 1}]
        with pytest.raises(ValueError, match=r"pool: row 144 is refused"):
            selector.select(rows, TARGETS, 5)
        assert selector.embedder.prompts == selector.shortlist.embedder.prompts == []


def test_targets_may_have_an_embedder_of_their_own():
    other = dear()
    selector = Selector(dear(), targets_embedder=other, shortlist=Shortlist(20, cheap()))
    selector.select(POOL, TARGETS, 5)
    assert sorted(other.prompts) == sorted(target["prompt"] for target in TARGETS)
    assert len(selector.embedder.prompts) == 20


@pytest.mark.parametrize("value", [0, "big", 1.5, True])
def test_wrong_values_are_refused_at_once(value):
    with pytest.raises(ValueError, match="shortlist must be"):
        Selector(dear(), shortlist=value)
