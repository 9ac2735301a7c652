"""The recipes with labelled targets, with a tiny model: LESS and learnability."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("trl")

from itl_hf import select_rows
from itl_hf.training import response_losses
from recipes.learnability import __main__ as learnability
from recipes.learnability.quality import nearest_rows, normalised_drop, quality_of
from recipes.less import __main__ as less
from tests.tiny_models import tiny_model, tiny_tokenizer

WORDS = ("stone", "river", "cloud", "window", "garden", "seven", "apple", "cherry")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    tiny_model("llama", layers=2).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"prompt": f"{task} {word}:", "completion": f" {word[::-1]}"} for task in "abc" for word in WORDS]
    for name, part in (("pool", rows[4:]), ("targets", rows[:4]), ("prompts", [{"prompt": "Hi"}])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    return folder


def options(files, tmp_path, **changes):
    return {
        "model_name_or_path": str(files / "model"),
        "dataset_name": str(files / "pool.jsonl"),
        "targets": str(files / "targets.jsonl"),
        "store": str(tmp_path / "features"),
        "output_file": str(tmp_path / "out" / "rows.jsonl"),
        "epochs": 2,
        "batch_size": 2,
        "learning_rate": 0.01,
        **changes,
    }


@pytest.mark.parametrize("changes", [{}, {"rule": "less_round_robin", "shortlist": 3}])
def test_less_picks_by_the_sum_of_cosines_over_epochs(files, tmp_path, changes, monkeypatch):
    seen = []
    monkeypatch.setattr(
        less, "select_rows", lambda *args, **more: seen.append((args, more)) or select_rows(*args, **more)
    )
    settings = less.Settings(**options(files, tmp_path, num_examples=4, warm_up_share=0.3, dimension=64, **changes))
    picks = less.run(settings)
    ((features, targets, count), more) = seen[0]
    assert (count, features.shape[1], targets.shape) == (4, 2 * 64, (4, 2 * 64))
    rates = more["acquisition"].learning_rates
    # 20 rows, 30%: six rows in three steps an epoch.
    np.testing.assert_allclose(rates, 0.01 * (1 - np.arange(6) / 6).reshape(2, 3).mean(1))
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    parts = [slice(0, 64), slice(64, 128)]
    halves = [unit(features[:, part].astype(float)) @ unit(targets[:, part].astype(float)).T for part in parts]
    influence = rates[0] * halves[0] + rates[1] * halves[1]
    numbers = picks["pool_index"]
    if not changes:
        assert len(features) == 20
        assert numbers == np.argsort(-influence.max(1), kind="stable")[:4].tolist()
    else:
        assert 3 <= len(features) <= 12
    pool = [json.loads(line) for line in (files / "pool.jsonl").read_text().splitlines()]
    written = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert written == [{**pool[number], "pool_index": number} for number in numbers]


@pytest.mark.parametrize("score", ["loss_drop", "contrast"])
def test_learnability_writes_the_losses_and_the_quality_of_the_nearest_rows(files, tmp_path, score):
    settings = learnability.Settings(**options(files, tmp_path, shortlist=9, neighbours=4, lora_r=2, score=score))
    rows = learnability.run(settings)
    assert len(rows) == 9
    assert rows["pool_index"] == sorted(rows["pool_index"])
    pool = [json.loads(line) for line in (files / "pool.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [pool[number]["prompt"] for number in rows["pool_index"]]
    before, after, scores, quality = (np.array(rows[name]) for name in learnability.COLUMNS[1:])
    np.testing.assert_allclose(before, response_losses(settings.model_name_or_path, rows.to_list()), rtol=1e-5)
    if score == "loss_drop":
        np.testing.assert_allclose(scores, (before - after) / before, rtol=1e-6)
    assert after.mean() < before.mean()  # the same answers as those of the targets, and an adapter that is still there
    assert ((quality > 0) & (quality <= 1)).all()
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 9


@pytest.mark.parametrize("recipe", [less, learnability])
def test_rows_without_completions_are_refused_by_name(files, tmp_path, recipe):
    settings = recipe.Settings(**options(files, tmp_path, targets=str(files / "prompts.jsonl")))
    with pytest.raises(ValueError, match=r"prompts\.jsonl, row 0: no completion"):
        recipe.run(settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: less.Settings(warm_up_share=0.0), "warm_up_share must be above 0"),
        (lambda: less.Settings(shortlist=-1), "shortlist must be 0"),
        (lambda: less.Settings(epochs=0), "epochs must be at least 1"),
        (lambda: learnability.Settings(neighbours=2), "neighbours must be at least 3"),
        (lambda: learnability.Settings(score="drop"), "score must be loss_drop or contrast"),
        (lambda: learnability.Settings(shortlist=0), "shortlist must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_answers_are_swapped_to_the_nearest_other_prompt():
    rows = [
        {"prompt": "a", "completion": " 1"},
        {"prompt": "a", "completion": " 2"},
        {"prompt": "b", "completion": " 3"},
    ]
    neighbours = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
    assert [(row["prompt"], row["completion"]) for row in learnability.swap_prompts(rows, neighbours)] == [
        ("b", " 1"),
        ("b", " 2"),
        ("a", " 3"),
    ]
    talk = [
        {"messages": [{"role": "user", "content": name}, {"role": "assistant", "content": f"to {name}"}]}
        for name in ("x", "y")
    ]
    (first, _) = learnability.swap_prompts(talk, np.array([[0, 1], [1, 0]]))
    assert [turn["content"] for turn in first["messages"]] == ["y", "to x"]
    assert learnability.swap_prompts(rows[:2], neighbours[:2, :2]) == rows[:2]


def test_quality_compares_a_row_with_those_like_it():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 40)
    drop = np.where(kinds == 0, 0.6, 0.1) + 0.03 * rng.normal(size=80)  # the second kind is harder to learn
    spoilt = [3, 50]
    drop[spoilt] -= 0.2
    features = np.where(kinds[:, None] == 0, [5.0, 0.0], [0.0, 5.0]) + 0.1 * rng.normal(size=(80, 2))
    neighbours = nearest_rows(features, 20)
    assert (neighbours[:, 0] == np.arange(80)).all()
    assert (kinds[neighbours] == kinds[:, None]).all()
    quality = quality_of(drop, neighbours)
    assert (quality[spoilt] < 0.01).all()
    assert np.median(quality) > 0.9
    medians = np.array([np.median(drop[row]) for row in neighbours])
    spreads = np.array([1.4826 * np.median(np.abs(drop[row] - m)) for row, m in zip(neighbours, medians, strict=True)])
    np.testing.assert_allclose(quality, 1 / (1 + np.exp(-4 * ((drop - medians) / spreads + 1))))


def test_quality_is_monotone_and_in_its_range_whatever_the_drops():
    same = np.zeros((5, 5), dtype=int) + np.arange(5)
    assert quality_of(np.full(5, 0.3), same) == pytest.approx(1 / (1 + np.exp(-4)))
    drop = np.array([-1e6, 0.0, 0.1, 0.2, 1.0])
    quality = quality_of(drop, same)
    assert (np.diff(quality) >= 0).all()
    assert (quality > 0).all()
    assert (quality <= 1).all()
    assert normalised_drop(np.array([0.0, 2.0]), np.array([0.0, 1.0])).tolist() == pytest.approx([0.0, 0.5])
