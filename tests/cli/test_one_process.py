"""Commands that several processes cannot share, under a launcher: process 0 does all, the others end."""

from __future__ import annotations

import json
import sys

import pytest

from itl_hf.cli import main as command_line
from itl_hf.launch import launched_size
from tests.selection.test_selector import POOL, TARGETS, CharacterCounts

LAUNCHERS = [
    {"RANK": "{}", "LOCAL_RANK": "{}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
    {"PMI_RANK": "{}", "PMI_SIZE": "2", "SLURM_STEP_NUM_TASKS": "2"},
]


@pytest.fixture(params=LAUNCHERS)
def launch(request, monkeypatch):
    def start(rank, *words):
        for name, value in request.param.items():
            monkeypatch.setenv(name, value.format(rank))
        monkeypatch.setattr(sys, "argv", ["itl-hf", *map(str, words)])
        try:
            command_line.main()
        except SystemExit as end:
            return end.code
        return 0

    return start


def test_process_0_does_all_of_the_work(launch, tmp_path, capsys):
    from itl_hf import Selector

    folder = Selector(CharacterCounts()).select(POOL, TARGETS, 5).save(tmp_path / "selected")
    assert launch(0, "report", folder, "--path", tmp_path / "report.html", "--json") == 0
    assert json.loads(capsys.readouterr().out)["command"] == "report"
    assert launched_size() == 1


def test_the_other_processes_end_without_a_word(launch, tmp_path, capsys):
    assert launch(1, "report", tmp_path / "nowhere") == 0
    assert capsys.readouterr() == ("", "")


def test_every_command_is_shared_or_of_one_process():
    names = {command.callback.__name__ for command in command_line.app.registered_commands}
    assert names - command_line.OF_ONE_PROCESS == {"embed", "index", "select", "train"}
    assert names > command_line.OF_ONE_PROCESS
