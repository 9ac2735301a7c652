"""Why ITL loses: what targets and rows get, by brute force; verdicts; resuming; a whole run on a small pool."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf import select_rows
from recipes.benchmarks.ten_pools import losing
from recipes.benchmarks.ten_pools.losing_changes import CHANGES, ITL, ROUND_ROBIN, Change
from recipes.benchmarks.ten_pools.losing_diagnosis import (
    RowProfile,
    is_starving,
    neighbourhoods,
    picks_by_target,
    remaining_variance,
    task_counts,
)
from recipes.benchmarks.ten_pools.losing_findings import diagnoses, is_losing
from recipes.benchmarks.ten_pools.losing_page import loss_difference, page, table
from recipes.benchmarks.ten_pools.losing_place import Place
from recipes.benchmarks.ten_pools.losing_results import Results
from recipes.benchmarks.ten_pools.losing_sentences import sentences
from recipes.benchmarks.ten_pools.pool import target_sets
from tests.recipes.ten_pools.conftest import TASKS, made_pool

ROWS = np.random.default_rng(0).normal(size=(40, 6))
TARGETS = np.random.default_rng(1).normal(size=(5, 6))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), num_picks=st.integers(1, 8), num_targets=st.integers(1, 6))
def test_picks_of_targets_and_profiles_by_brute_force(seed, num_picks, num_targets):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 4, (num_picks, num_targets)) / 4  # with ties
    counts = [0] * num_targets
    for row in similarity.tolist():
        counts[row.index(max(row))] += 1
    assert picks_by_target(similarity).tolist() == counts
    least = rng.integers(0, 4, num_targets) / 4
    profile = RowProfile.of(similarity, least)
    near = [sum(value >= least[target] for target, value in enumerate(row)) for row in similarity.tolist()]
    assert profile.count == num_picks
    assert profile.near == pytest.approx(np.mean(near))
    assert profile.nearest == pytest.approx(np.mean([max(row) for row in similarity.tolist()]))
    assert profile.average == pytest.approx(np.mean(similarity))


def test_no_picks_have_an_empty_profile():
    assert RowProfile.of(np.zeros((0, 3)), np.zeros(3)).columns("other") == {
        "other_count": 0,
        "other_near": None,
        "other_nearest": None,
        "other_average": None,
    }


def test_neighbourhoods_are_the_largest_correlations_with_the_pool():
    selection = select_rows(ROWS, TARGETS, 3, shortlist=None)
    nearest = neighbourhoods(selection, 4)
    prepared, targets = selection.pool.rows(range(40)), selection.gp.targets
    gram = np.exp((np.array(prepared) @ np.array(targets).T - 1) / selection.record.kernel_options["lengthscale"])
    assert nearest == pytest.approx(np.sort(gram, 0)[::-1][:4].T)
    assert neighbourhoods(selection, 100).shape == (5, 40)
    # A pick is near to a target exactly where it is among the rows of its neighbourhood.
    near = RowProfile.of(selection.similarity, nearest[:, -1]).near
    ranks = (-gram).argsort(0)[:4]
    assert near == pytest.approx(np.mean([(ranks == pick).sum() for pick in selection.indices]))


def test_starving_and_remaining_variance():
    assert is_starving(np.array([0, 1, 2, 3]), np.array([3.0, 2.0, 5.0, 6.0])).tolist() == [True, False, True, False]
    assert remaining_variance(np.array([[2.0, 1.0, 0.0], [1.0, 0.9, 0.0], [0.5, 0.8, 0.0]])).tolist() == [0.25, 0.8, 0]


def test_tasks_of_targets_come_first_and_tasks_without_picks_only_with_targets():
    counts = task_counts({"itl": np.array(["b", "c", "b"]), "round_robin": np.array(["a", "d", "d"])}, {"b": 2, "z": 1})
    assert list(counts) == ["b", "z", "a", "c", "d"]
    assert counts["b"] == {"fair": 2, "itl": 2, "round_robin": 0}
    assert counts["z"] == {"fair": 1, "itl": 0, "round_robin": 0}
    assert counts["d"] == {"fair": None, "itl": 0, "round_robin": 2}


def test_every_change_changes_one_part():
    assert len({change.description for change in (ITL, ROUND_ROBIN, *CHANGES)}) == len(CHANGES) + 2
    noise_std = ITL.select(ROWS, TARGETS, 3).record.noise_std
    records = {change.name: change.select(ROWS, TARGETS, 3, noise_std).record for change in CHANGES}
    assert records["noise variance x 3"].noise_std == pytest.approx(noise_std * 3**0.5)
    assert records["noise variance x 1/3"].target_noise_std == pytest.approx(noise_std / 3**0.5)
    assert (records["target noise 0"].noise_std, records["target noise 0"].target_noise_std) == (noise_std, 0)
    assert records["RBF, lengthscale 0.3"].kernel_options["lengthscale"] == 0.3
    assert records["one factor for all dimensions"].standardization_name == "scale"
    assert records["VTL"].acquisition_name == "vtl"
    assert records["shortlist 2 n"].shortlist["setting"] == 6
    assert records["VTL"].shortlist is None
    with pytest.raises(ValueError, match="pass noise_std"):
        Change("more noise", "noise", noise_factor=2.0).select(ROWS, TARGETS, 3)


def cells(change, scores, relevant=None, **values):
    """Cells of sets 0, 1, ... with these scores."""
    return [
        {"pool": "generated", "shares": "equal", "set": number, "change": change, "options": "{}", "noise_std": 1.0}
        | {"relevant": score if relevant is None else relevant[number], "score": score}
        | {f"{group}_{name}": 1.0 for group in ("task", "other") for name in ("count", "near", "nearest", "average")}
        | values
        for number, score in enumerate(scores)
    ]


TARGET = {
    "pool": "generated",
    "shares": "equal",
    "set": 0,
    "fair": 4.0,
    "round_robin_picks": 4,
    "round_robin_left": 0.5,
}


def made_diagnosis(**scores):
    """A diagnosis of cells with these scores, ITL's being .5, .6, .7 and round-robin's one more tenth or so."""
    rows = cells("itl", [0.5, 0.6, 0.7]) + cells("round-robin", [0.62, 0.7, 0.78])
    rows += [row for name, values in scores.items() for row in cells(name.replace("_", " "), values)]
    targets = [
        {**TARGET, "target": 0, "task": "a|b", "tightness": 0.3, "itl_picks": 1, "itl_left": 0.8},
        {**TARGET, "target": 1, "task": "c", "tightness": 0.6, "itl_picks": 7, "itl_left": 0.4},
    ]
    place = {"pool": "generated", "shares": "equal", "set": 0}
    tasks = [
        {**place, "task": "a|b", "fair": 4.0, "itl": 1, "round_robin": 4},
        {**place, "task": "c", "fair": 4.0, "itl": 6.5, "round_robin": 4},
        {**place, "task": "<other>", "fair": None, "itl": 3, "round_robin": 0},
    ]
    (diagnosis,) = diagnoses({"cells": rows, "targets": targets, "tasks": tasks})
    return diagnosis, {"cells": rows, "targets": targets, "tasks": tasks}


def test_behind_means_by_more_than_one_standard_error():
    rival = cells("round-robin", [0.5, 0.5, 0.5])
    assert is_losing(cells("itl", [0.4, 0.4, 0.45]), rival)
    assert not is_losing(cells("itl", [0.2, 0.5, 0.8]), rival)
    assert not is_losing(cells("itl", [0.5, 0.5, 0.5]), rival)
    assert not is_losing(cells("itl", [0.1]), rival)  # no standard error
    assert is_losing(cells("itl", [0.6, 0.6, 0.6], relevant=[0.3, 0.4, 0.35]), rival)


def test_verdicts():
    diagnosis, _ = made_diagnosis(
        VTL=[0.62, 0.71, 0.79],
        linear_kernel=[0.53, 0.63, 0.74],
        target_noise_0=[0.4, 0.5, 0.65],
        exponential_cosine=[0.4, 0.6, 0.8],
        **{"mean-marginal ITL": [0.9]},
    )
    assert set(diagnosis.behind) == {"relevant", "score"}
    assert diagnosis.verdicts() == {
        "linear kernel": "helps",
        "exponential cosine": "unclear",
        "target noise 0": "hurts",
        "VTL": "mends",
    }


def test_starving_over_served_and_other_tasks():
    diagnosis, _ = made_diagnosis()
    assert [row["task"] for row in diagnosis.starving("itl")] == ["a|b"]
    assert diagnosis.starving("round_robin") == []
    assert [row["task"] for row in diagnosis.over_served("itl")] == ["c"]
    assert diagnosis.remaining_variance().difference == pytest.approx(0.1)
    assert diagnosis.other_tasks("itl") == {"<other>": 1.0}
    assert diagnosis.other_tasks("round_robin") == {}
    assert diagnosis.balance("itl")["tightness"] == pytest.approx(1)
    assert np.isnan(diagnosis.balance("round_robin")["tightness"])


def test_sentences_and_page_state_the_numbers_and_escape_text():
    noise = {"noise variance x 1/3": [0.5, 0.6, 0.7], "noise variance x 3": [0.62, 0.7, 0.78]}
    diagnosis, tables = made_diagnosis(**noise)
    text = " ".join(sentences(diagnosis))
    assert "50% starve under ITL, more than under round-robin (0%)" in text
    assert "looser than those of the others: mean correlation with their 12 nearest rows 0.30 against 0.60" in text
    assert "score -0.100 ± 0.012 as it is, -0.100 ± 0.012 with noise variance x 1/3, +0.000 ± 0.000" in text
    assert "noise variance x 3: no longer behind, and better than ITL" in text
    assert "Tasks whose targets have tight neighbourhoods get more" in text
    assert "and better than ITL: *noise variance x 3*" in text
    markdown = page(tables)
    assert "a\\|b" in markdown
    assert "\\<other> 1.0" in markdown
    assert "not measured" in markdown
    for line in markdown.splitlines():
        assert not line.startswith("| a|b")


def test_losses_are_compared_on_common_sets():
    place = {"pool": "generated", "shares": "handful", "half": "development", "picks": "96"}
    losses = [
        {**place, "options": options, "set": str(number), "loss": loss}
        for options, values in {
            '{"acquisition": "itl", "shortlist": null}': ["1.0", "2.0", ""],
            '{"acquisition": "itl", "shortlist": "1.5n"}': ["3.0", "3.0", "3.0"],
            '{"acquisition": "round_robin"}': ["1.5", "2.1", "9"],
        }.items()
        for number, loss in enumerate(values)
    ]
    comparison = loss_difference(losses, "generated", "handful")
    assert comparison is not None
    assert comparison.difference == pytest.approx(-0.3)
    assert (comparison.better, comparison.worse) == (0, 2)
    assert loss_difference(losses, "generated", "equal") is None


def test_tables_are_escaped():
    assert table(["a"], [["x|y_z"]]) == "| a |\n| --- |\n| x\\|y\\_z |"


def test_results_resume_from_csv_and_folder_and_refuse_other_options(tmp_path):
    results = Results(tmp_path / "r.csv", tmp_path / "cells")
    results.save({"cells": cells("itl", [0.123456])})
    results.save({"cells": cells("VTL", [0.5, 0.25])})
    again = Results(tmp_path / "r.csv", tmp_path / "cells")
    assert again.tables == results.tables
    tables = again.write()
    assert tables["cells"][0]["set"] == 0
    assert [row["score"] for row in tables["cells"]] == [0.5, 0.1235, 0.25]
    assert tables["targets"] == []
    committed = Results(tmp_path / "r.csv", tmp_path / "other")
    assert committed.cell("generated", "equal", 1, "VTL", "{}")["score"] == 0.25
    assert committed.cell("generated", "equal", 1, "VTL", '{"kernel": "linear"}') is None
    assert committed.cell("generated", "equal", 2, "VTL", "{}") is None


def made_bench():
    """A bench with features in which rows of a task are alike."""
    pool = replace(made_pool(), name="generated")
    rng = np.random.default_rng(0)
    centres = {task: rng.normal(size=8) for task in TASKS}
    rows, bank = (
        np.array([centres[task] + rng.normal(size=8) for task in tasks])
        for tasks in (pool.tasks, pool.bank.rows["task"])
    )
    return SimpleNamespace(
        pool=lambda name: pool,
        features=lambda features, name: (rows, bank),
        sets=lambda name, half, shares: target_sets(pool, half, 3, shares),
        config=SimpleNamespace(features={"default": "made"}),
    )


def test_a_run_measures_all_changes_once_and_only_where_itl_is_behind(tmp_path, monkeypatch):
    place = Place(made_bench(), "generated", "handful", 12)
    monkeypatch.setattr(losing, "is_losing", lambda *_: False)
    results = Results(tmp_path / "r.csv", tmp_path / "cells")
    losing.run([place], results, 2)
    assert {key[3] for key in results.tables["cells"]} == {"itl", "round-robin"}
    monkeypatch.setattr(losing, "is_losing", lambda *_: True)
    losing.run([place], results, 2)
    tables = results.write()
    assert len(tables["cells"]) == 2 * (2 + len(CHANGES))
    assert len(tables["targets"]) == 2 * 8
    for number in range(2):
        targets = [row for row in tables["targets"] if row["set"] == number]
        tasks = [row for row in tables["tasks"] if row["set"] == number]
        for column in ("itl", "round_robin"):
            assert sum(row[f"{column}_picks"] for row in targets) == sum(row[column] for row in tasks) == 12
        assert sum(row["fair"] is not None for row in tasks) == 4
    itl = next(row for row in tables["cells"] if row["change"] == "itl")
    assert itl["task_count"] + itl["other_count"] == 12
    assert itl["relevant"] == pytest.approx(itl["task_count"] / 12, abs=1e-4)
    assert "# Why ITL loses" in page(tables)

    def refuse(*_):
        raise AssertionError("selected again")

    monkeypatch.setattr(Place, "_select", refuse)
    losing.run([place], Results(tmp_path / "r.csv", tmp_path / "empty"), 2)


def test_shares_that_a_pool_has_too_few_rows_for_are_left_out(tmp_path, capsys):
    bench = made_bench()

    def refuse(*_):
        raise ValueError("only 3 tasks")

    bench.sets = refuse
    losing.run([Place(bench, "generated", "mixture", 12)], Results(tmp_path / "r.csv", tmp_path / "cells"), 2)
    assert "left out: only 3 tasks" in capsys.readouterr().out
