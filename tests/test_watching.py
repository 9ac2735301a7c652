"""No process waits for one that failed, was killed or fell silent; what only one can know, the first one decides."""

import json

import numpy as np
import pytest

from itl_hf import select_rows
from itl_hf.heartbeat import LIMIT_VARIABLE, time_limit
from itl_hf.launch import LaunchError, check_launch, is_on_several_machines, launched_size
from tests.watching import POOL, TARGETS
from tests.worlds import script


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watching")
    return {**json.loads(script("tests.watching", folder).stdout), "folder": folder}


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("fail_alone", "OtherProcessFailed: process 1 failed: FileNotFoundError: pool.jsonl: no such file"),
        ("read_alone", "missing"),
        ("exit_alone", "process 1 ended with status 2"),
        ("bad_pool", "process 1 failed: ValueError"),
        ("fall_silent", "process 1 has not been heard of for 2 seconds"),
        ("killed", "another process ended without an error message"),
    ],
)
def test_a_process_that_ends_ends_the_other(ends, case, text):
    codes, (first, _) = ends[case]["codes"], ends[case]["texts"]
    assert codes[0] == 1
    assert codes[1] != 0
    assert text in first


def test_the_machine_is_named_if_there_are_several(ends):
    first, second = ends["read_alone"]["texts"]
    assert "OtherProcessFailed: process 1 on " in first
    assert second.startswith("FileNotFoundError")


def test_silence_while_training_is_no_failure(ends):
    assert ends["silent_in_training"]["codes"] == [0, 0]


def test_what_is_on_disk_is_decided_on_the_first_process(ends):
    assert ends["decided_on_first"]["codes"] == [0, 0]
    first, second = ends["refused_on_first"]["texts"]
    assert first.startswith("FileExistsError: --output_dir out")
    assert "process 0 failed: FileExistsError: --output_dir out" in second


def test_a_folder_that_is_not_shared_is_noticed(ends):
    assert ends["is_shared"]["codes"] == [0, 0]
    for text in ends["not_shared"]["texts"]:
        assert "process 1 does not see what process 0 wrote" in text
        assert "must be on a file system that all processes share" in text


def test_a_selection_on_the_first_disk_is_resumed_on_all(ends):
    assert ends["resumed_from_first"]["codes"] == [0, 0], ends["resumed_from_first"]["texts"]


def test_contexts_may_follow_and_contain_each_other(ends):
    assert ends["same_picks"]["codes"] == [0, 0]
    alone = select_rows(POOL, TARGETS, 5).indices
    for rank in (0, 1):
        np.testing.assert_array_equal(json.loads((ends["folder"] / "same_picks" / f"{rank}.json").read_text()), alone)


ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "10.0.0.1"}


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [
        (ACCELERATE, "torchrun --nnodes 2"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "unset SLURM_STEP_NUM_TASKS"),
        ({"SLURM_STEP_NUM_TASKS": "4", "GROUP_WORLD_SIZE": "1", "RANK": "0", "WORLD_SIZE": "8"}, "--nnodes"),
    ],
)
def test_a_process_that_would_run_alone_is_refused(environment, remedy):
    with pytest.raises(LaunchError, match=remedy):
        check_launch(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MASTER_ADDR": "10.0.0.1"},
        {"ACCELERATE_MIXED_PRECISION": "no"},
        {**ACCELERATE, "RANK": "0", "WORLD_SIZE": "2"},
        {**ACCELERATE, "RANK": "0", "WORLD_SIZE": "1"},
        {**ACCELERATE, "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_STEP_NUM_TASKS": "4", "GROUP_WORLD_SIZE": "4", "RANK": "9", "WORLD_SIZE": "32"},
        {"SLURM_STEP_NUM_TASKS": "4", "RANK": "3", "WORLD_SIZE": "4"},
    ],
)
def test_other_launches_are_not_refused(environment):
    check_launch(environment)


def test_the_environment_says_how_many_there_are():
    assert launched_size({"PMI_RANK": "2", "PMI_SIZE": "3"}) == 3
    assert launched_size({"WORLD_SIZE": "3"}) == 1  # without a number it cannot join
    assert is_on_several_machines({"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
    assert not is_on_several_machines({"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"})
    assert not is_on_several_machines({})


@pytest.mark.parametrize("text", ["0", "-3", "soon", "nan"])
def test_a_time_limit_must_be_a_number(monkeypatch, text):
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(ValueError, match=LIMIT_VARIABLE):
        time_limit()
