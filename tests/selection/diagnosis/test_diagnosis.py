"""Which targets a pool cannot teach: named rightly, with their text, also after a trip to the disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itl_hf import Embedder, Selection, Selector
from itl_hf.gp import attainable
from itl_hf.selection.diagnosis.diagnosis import FAR, Diagnosis, TargetDiagnosis


class Words(Embedder):
    """One dimension for each word: what no row of the pool mentions lies outside its span."""

    dimension = 8
    known = ("sun", "moon", "star", "fish", "bird", "tree", "gold", "rust")

    def fingerprint(self):
        return {"embedder": "words"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        return torch.tensor(
            [[float((row.get("prompt") or row["text"]).count(word)) for word in self.known] for row in rows]
        )


POOL = [f"{one} {other}" for one in Words.known[:5] for other in Words.known[:5]] * 2
TARGETS = [
    {"prompt": "sun and moon"},
    {"prompt": "gold\n  of fools"},
    {"prompt": "rust, gold and star"},
    {"prompt": "bird"},
]


def select(kernel="linear", standardize=False, targets=TARGETS, num_examples=20, **options):
    selector = Selector(Words(), kernel=kernel, standardize=standardize, noise_std=0.5, **options)
    return selector.select(POOL, targets, num_examples)


def test_targets_outside_the_pools_span_are_unteachable_and_the_others_taught():
    diagnosis = select().diagnose()
    assert [target.verdict for target in diagnosis.targets] == ["taught", "unteachable", "unteachable", "taught"]
    np.testing.assert_allclose([target.irreducible for target in diagnosis.targets], [0, 1, 2 / 3, 0], atol=1e-12)
    assert [target.target for target in diagnosis.unteachable] == [1, 2]
    assert diagnosis.unteachable[0].text == "gold\n  of fools"
    assert diagnosis.targets[0].reach == pytest.approx(1)
    assert diagnosis.targets[1].removed_share == pytest.approx(0)
    assert diagnosis.exact


@pytest.mark.parametrize("kernel", ["linear", "rbf", "laplace"])
@pytest.mark.parametrize("standardize", [True, "scale"])
@pytest.mark.parametrize("acquisition", ["itl", "vtl", "cosine", "random"])
def test_shares_are_in_order_whatever_was_asked_for(kernel, standardize, acquisition):
    selection = select(kernel, standardize, acquisition=acquisition)
    for target in selection.diagnose().targets:
        assert -1e-9 <= target.irreducible <= target.whole_pool + 1e-9
        assert target.whole_pool <= target.left + 1e-6
        assert target.left <= 1 + 1e-9
        assert target.removed_share == pytest.approx(1 - target.left)


def test_a_saved_selection_gives_the_same_diagnosis(tmp_path):
    selection = select()
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    assert loaded.diagnose() == selection.diagnose()
    assert loaded.record.attainable["exact"] is True


def test_a_pool_too_large_to_look_at_whole_is_said_to_be(monkeypatch):
    monkeypatch.setattr(
        attainable.attainable_variance,
        "__kwdefaults__",
        {**attainable.attainable_variance.__kwdefaults__, "most_rows": 12},
    )
    diagnosis = select(num_examples=4).diagnose()
    assert not diagnosis.exact
    assert diagnosis.rows_looked_at <= 12
    assert f"upper bounds, from {diagnosis.rows_looked_at} rows" in str(diagnosis)
    assert "<=100%" in str(diagnosis)


def test_the_table_puts_trouble_first_and_names_it_in_words():
    text = str(select().diagnose())
    assert text.startswith("20 of 50 rows leave ")
    assert "This pool cannot teach 2 targets: 1, 2." in text
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("target"))
    assert [int(line.split()[0]) for line in lines[start + 1 :]][:2] == [1, 2]
    assert "this pool cannot teach it" in lines[start + 1]
    assert lines[start + 1].endswith("gold of fools")
    assert (
        len({line.index(word) for line, word in zip(lines[start + 1 : start + 3], ("gold", "rust"), strict=True)}) == 1
    )


def test_conversations_and_plain_texts_are_shown_by_their_prompt():
    chat = [{"prompt": [{"role": "user", "content": "sun or moon?"}]}]

    class Chat(Words):
        def embed(self, rows, *, first_row=0, on_rows=None):
            return super().embed([{"text": str(row)} for row in rows])

    assert Selector(Chat()).select(POOL, chat, 2).diagnose().targets[0].text == "sun or moon?"
    assert select(targets=["sun", "moon tree"]).diagnose().targets[1].text == "moon tree"


def test_a_target_without_variance_is_not_blamed_on_the_pool():
    diagnosis = select(targets=[{"prompt": "nothing of it"}, {"prompt": "sun and moon"}]).diagnose()
    assert [target.verdict for target in diagnosis.targets] == ["empty", "taught"]
    assert diagnosis.targets[0].left == 0
    assert "nothing to learn" in str(diagnosis)


CASES = {
    "unteachable": dict(irreducible=0.5, whole_pool=0.6, left=0.7, reach=0.2),
    "far": dict(irreducible=0.4, reach=FAR - 0.01),
    "taught": dict(left=0.5, reach=FAR + 0.01),
    "improvable": dict(left=0.6, whole_pool=0.45),
    "exhausted": dict(left=0.6, whole_pool=0.55),
    "empty": dict(variance=0.0, left=0.0, reach=0.0),
}


def target(number=0, text="a prompt", variance=1.0, left=0.9, irreducible=0.0, whole_pool=0.2, reach=0.9):
    return TargetDiagnosis(number, text, variance, left, irreducible, whole_pool, reach)


@pytest.mark.parametrize("verdict", CASES)
def test_verdicts_follow_their_thresholds(verdict):
    assert target(**CASES[verdict]).verdict == verdict


def test_strangers_to_a_crowded_pool_are_far_and_its_own_kind_is_not():
    """More rows than dimensions: nothing is irreducible, yet a cluster that the pool lacks must be noticed."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 24, generator=generator)
    draw = lambda cluster: centres[cluster] + 0.3 * torch.randn(24, generator=generator)
    features = {f"pool {row}": draw(row % 5) for row in range(300)}
    features |= {f"own {row}": draw(row % 5) for row in range(10)} | {f"strange {row}": draw(5) for row in range(10)}

    class Table(Words):
        dimension = 24

        def embed(self, rows, *, first_row=0, on_rows=None):
            return torch.stack([features[row["text"]] for row in rows])

    pool, targets = ([name for name in features if name.startswith(kinds)] for kinds in (("pool",), ("own", "strange")))
    for kernel in ("linear", "rbf"):
        diagnosis = Selector(Table(), kernel=kernel).select(pool, targets, 30).diagnose()
        assert not any(target.verdict in ("far", "unteachable") for target in diagnosis.targets[:10])
        assert all(target.verdict in ("far", "unteachable") for target in diagnosis.targets[10:])


def test_shares_of_all_targets_weigh_by_variance_and_long_lists_are_cut():
    targets = tuple(target(number, "x" * 500, variance=1 + number, left=number / 100) for number in range(100))
    diagnosis = Diagnosis(targets, 5, 10, 10)
    weights = np.arange(1, 101)
    assert diagnosis.left == pytest.approx((weights * np.arange(100) / 100).sum() / weights.sum())
    assert diagnosis.whole_pool == pytest.approx(0.2)
    assert str(diagnosis).endswith("... and 70 more")
    assert max(map(len, str(diagnosis).splitlines())) < 160
    assert len(diagnosis.table(rows=None).splitlines()) == 101


def test_texts_of_one_kind_are_cut_where_they_are_alike():
    texts = [
        f"Restore the correct order of words in the following sentence: {word}" for word in ("apple", "river", "sun")
    ]
    targets = tuple(target(number, text) for number, text in enumerate(texts))
    table = Diagnosis(targets, 5, 10, 10).table()
    assert [line.rpartition("  ")[2] for line in table.split("\n")[1:]] == [
        f"Restore the … the following sentence: {word}" for word in ("apple", "river", "sun")
    ]
