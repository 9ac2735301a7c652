"""What commands say and where: JSON on stdout alone, exit statuses, quiet and verbose."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys

import pytest
import typer
from typer.testing import CliRunner

from itl_hf.cli import main as command_line
from itl_hf.cli.errors import exit_status
from itl_hf.cli.main import main
from itl_hf.cli.output import Outcome, peak_memory, with_output


def app_of(command):
    app = typer.Typer(rich_markup_mode=None)
    app.command()(with_output(command))
    return lambda *words: CliRunner().invoke(app, list(words))


def chatty(name: str = "you") -> Outcome:
    print("a library talks")
    print("and complains", file=sys.stderr)
    if name == "nobody":
        raise ValueError("there is nobody")
    return Outcome(f"hello {name}", {"name": name, "bars": os.environ.get("TQDM_DISABLE")})


def test_text_is_for_people():
    result = app_of(chatty)("--name", "me")
    assert result.stdout == "a library talks\nhello me\n"


def test_json_has_stdout_to_itself():
    result = app_of(chatty)("--json")
    assert json.loads(result.stdout) == {"command": "chatty", "name": "you", "bars": None}
    assert "a library talks" in result.stderr


def test_an_error_is_json_too():
    result = app_of(chatty)("--json", "--name", "nobody")
    assert json.loads(result.stdout) == {"command": "chatty", "error": "there is nobody"}
    assert isinstance(result.exception, ValueError)


def test_quiet_turns_bars_off_and_only_while_it_works():
    result = app_of(chatty)("--json", "-q")
    assert json.loads(result.stdout)["bars"] == "1"
    assert "TQDM_DISABLE" not in os.environ


def test_verbose_says_where(monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    result = app_of(chatty)("--name", "nobody", "--verbose")
    assert "Traceback" in result.stderr
    assert "in chatty" in result.stderr
    assert "Traceback" not in app_of(chatty)("--name", "nobody").stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), 2),
        (FileNotFoundError("x"), 2),
        (ImportError("x"), 2),
        (OSError(errno.ENOSPC, "disk full"), 1),
        (ConnectionError("x"), 1),
        (RuntimeError("out of memory"), 1),
        (MemoryError(), 1),
    ],
)
def test_exit_statuses(error, status, monkeypatch, capsys):
    def fail():
        raise error

    assert exit_status(error) == status
    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith("itl-hf: ")


def test_interrupted():
    def stopped() -> Outcome:
        raise KeyboardInterrupt

    assert app_of(stopped)().exit_code == 130


def test_memory_is_in_bytes():
    assert peak_memory() is None or 10 * 2**20 < peak_memory() < 2**45
