"""`Selector.select(avoid=...)`: prompts whose tasks must not be learned, as text."""

from __future__ import annotations

import pytest

from itl_hf import ITL, Avoid, Selection, Selector, select_rows
from tests.training import tiny

AVOIDED = ["row5 the of a", "row9 and and to"]


@pytest.fixture(scope="module")
def embedder():
    return tiny.embedder(tiny.model())


def select(embedder, num_examples=8, acquisition="itl", **options):
    rows = tiny.pool(text=True)
    return Selector(embedder, acquisition, store=False).select(rows, tiny.TARGETS, num_examples, **options)


def test_the_prompts_are_embedded_and_their_information_is_subtracted(embedder, tmp_path):
    selection = select(embedder, avoid=Avoid(AVOIDED, weight=0.7))
    pool, targets, avoided = (
        embedder.embed(
            [{"prompt": row["prompt"]} if isinstance(row, dict) else {"prompt": row} for row in rows]
        ).numpy()
        for rows in (list(tiny.pool(text=True)), tiny.TARGETS, AVOIDED)
    )
    expected = select_rows(pool, targets, 8, acquisition=ITL(avoid=Avoid(avoided, weight=0.7)))
    assert selection.indices.tolist() == expected.indices.tolist()
    assert selection.gains == pytest.approx(expected.gains, rel=1e-6)
    assert selection.record.acquisition_options["avoid"] == expected.record.acquisition_options["avoid"]
    plain = select(embedder)
    assert selection.indices.tolist() != plain.indices.tolist()
    assert "avoid" not in plain.record.acquisition_options
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    assert loaded.record == selection.record
    assert "less that about the prompts to avoid" in selection.report(tmp_path / "report.html").read_text()


@pytest.mark.parametrize("avoid", [None, [], Avoid(AVOIDED, weight=0)])
def test_nothing_to_avoid_is_today(embedder, avoid):
    plain, same = select(embedder), select(embedder, avoid=avoid)
    assert same.indices.tolist() == plain.indices.tolist()
    assert same.record == plain.record


def test_an_extended_selection_goes_on_avoiding(embedder):
    whole, first = (select(embedder, count, avoid=AVOIDED, acquisition=ITL(noise_std=1.0)) for count in (10, 6))
    assert first.extend(4).indices.tolist() == whole.indices.tolist()


def test_what_cannot_be_avoided_is_refused_before_the_model_runs(embedder, monkeypatch):
    monkeypatch.setattr(type(embedder), "embed", None)
    with pytest.raises(ValueError, match="avoid= is for acquisition 'itl', and this one is 'vtl'"):
        select(embedder, acquisition="vtl", avoid=AVOIDED)
    with pytest.raises(ValueError, match="avoid= is for acquisition 'itl', and this one is 'random'"):
        select(embedder, acquisition="random", avoid=AVOIDED)
    with pytest.raises(ValueError, match="pass them as text"):
        Selector(embedder, ITL(avoid=Avoid([[1.0]])))
    with pytest.raises(ValueError, match=r"avoid: .*row"):
        select(embedder, avoid=[{"prompt": ""}])
