"""`itl-hf select` with rows against forgetting, prompts to avoid, and trackers."""

from __future__ import annotations

import json

import pytest

from itl_hf import Avoid, HiddenStates, Replay, Selection, Selector
from itl_hf.cli.load_rows import load_rows
from tests.tiny_models import SENTENCES


@pytest.fixture
def avoid_file(tmp_path):
    path = tmp_path / "avoid.txt"
    path.write_text("\n".join(SENTENCES[1:2]))
    return path


def select(run, files, tmp_path, *options):
    return run(
        "select", "--config", files / "run.yaml", "--output_dir", tmp_path / "out", "--num_examples", 6, *options
    )


def test_replay_and_avoid_are_those_of_python(files, run, tmp_path, avoid_file):
    options = "--replay_share", 0.4, "--replay_method", "k_means", "--avoid", avoid_file, "--avoid_weight", 0.5
    result = select(run, files, tmp_path, *options)
    assert result.exit_code == 0, result.output
    selection = Selection.load(tmp_path / "out")
    selector = Selector(HiddenStates(str(files / "model"), layer=1), noise_std=1.5)
    python = selector.select(
        load_rows(str(files / "pool.jsonl")),
        load_rows(str(files / "targets.txt")),
        6,
        replay_share=Replay(0.4, "k_means"),
        avoid=Avoid(load_rows(str(avoid_file)), 0.5),
    )
    assert selection.training_indices.tolist() == python.training_indices.tolist()
    assert len(selection.training_indices) == 10
    assert selection.record.acquisition_options == python.record.acquisition_options
    exported = run("export", tmp_path / "out", "--path", tmp_path / "rows.jsonl")
    assert exported.exit_code == 0, exported.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["pool_index"] for row in rows] == selection.training_indices.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--replay_share", 1.5), "above 0 and below 1"),
        (("--replay_method", "k_means"), "--replay_method goes with --replay_share"),
        (("--avoid_weight", 2), "--avoid_weight goes with --avoid"),
        (("--avoid", "FILE", "--acquisition", "vtl"), "--avoid is for --acquisition itl"),
        (("--avoid", "FILE", "--avoid_weight", -1), "weight of avoid must be 0 or a positive"),
        (("--report_to", "tensorbord"), "accelerate has no tracker 'tensorbord'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_model_is_loaded(options, message, files, run, tmp_path, avoid_file):
    typed = [avoid_file if option == "FILE" else option for option in options]
    result = select(run, files, tmp_path, *typed, "--model_name_or_path", "no/model")
    assert result.exit_code != 0
    assert message in " ".join((result.output + str(result.exception)).replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_selection_is_logged_where_trainings_are(files, run, tmp_path):
    pytest.importorskip("tensorboard")
    result = select(run, files, tmp_path, "--report_to", "tensorboard", "--logging_dir", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "runs" / "out").glob("events.*"))
