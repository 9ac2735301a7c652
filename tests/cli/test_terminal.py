"""Text of data cannot control the terminal, wherever it is printed; files have the permissions that users expect."""

from __future__ import annotations

import json
import logging
import os
import warnings

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from itl_hf import Selection
from itl_hf.cli import main as command_line
from itl_hf.cli.errors import sentence
from itl_hf.cli.main import app, main, plain_warning
from itl_hf.cli.output import Outcome, say_note, with_output
from itl_hf.disk.file_modes import current_umask, new_file_mode, new_folder_mode, set_modes
from itl_hf.selection.diagnosis.diagnosis import Diagnosis, TargetDiagnosis
from itl_hf.visible import visible, visible_json

#: Title of the window, clipboard (OSC 52), a link, colours, the end of the screen, one-byte CSI, other directions.
HOSTILE = (
    "a\x1b]0;owned\x07 \x1b]52;c;ZXZpbA==\x1b\\ \x1b[2J\x1b[31m \x9b1m \r\b\x7f "
    "\u202egnp.exe\u2066 \u2028 \ud800 \U000e0041"
)
CONTROLS = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} | set("\u202e\u2066\u200f\ud800")


def assert_harmless(text):
    assert not CONTROLS & set(text), ascii(text)


def test_hidden_characters_are_visible_and_line_ends_stay():
    assert_harmless(visible(HOSTILE))
    assert visible("one\ntwo\tthree é 你好 🙂 שלום") == "one\ntwo\tthree é 你好 🙂 שלום"


@given(st.text(st.characters(codec=None)))
def test_no_text_is_harmful_and_plain_text_is_unchanged(text):
    assert_harmless(visible(text))
    assert visible(visible(text)) == visible(text)
    if text.isprintable():
        assert visible(text) == text


@given(st.dictionaries(st.text(), st.text(), max_size=3))
def test_json_is_harmless_and_says_the_same(values):
    text = visible_json(json.dumps(values, ensure_ascii=False))
    assert_harmless(text)
    assert json.loads(text) == values


def hostile_command(fail: bool = False) -> Outcome:
    logging.getLogger("itl_hf").warning("a column %s", HOSTILE)
    say_note(HOSTILE)
    if fail:
        raise ValueError(HOSTILE)
    return Outcome(HOSTILE, {"text": HOSTILE})


@pytest.mark.parametrize("words", [[], ["--json"], ["--fail"], ["--fail", "--json"], ["--fail", "--verbose"], ["-v"]])
def test_results_notes_logs_errors_and_tracebacks(words, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    one = typer.Typer(rich_markup_mode=None)
    one.command()(with_output(hostile_command))
    result = CliRunner().invoke(one, words)
    assert_harmless(result.stdout)
    assert_harmless(result.stderr)


def test_records_of_the_log_are_harmless_while_a_command_runs(caplog):
    one = typer.Typer(rich_markup_mode=None)
    one.command()(with_output(hostile_command))
    CliRunner().invoke(one, [])
    assert caplog.records
    for record in caplog.records:
        assert_harmless(record.getMessage())


@pytest.mark.parametrize(
    "error", [ValueError(HOSTILE), FileNotFoundError(2, "No such file", HOSTILE), KeyError(HOSTILE)]
)
def test_sentences_of_errors(error, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().err
    assert_harmless(printed)
    assert printed.startswith("itl-hf: ")
    assert "Traceback" not in printed


def test_warnings_and_tables_and_errors_of_options(tmp_path):
    assert_harmless(plain_warning(HOSTILE, UserWarning, "file.py", 1))
    assert_harmless(plain_warning(HOSTILE, DeprecationWarning, "file.py", 1))
    target = TargetDiagnosis(0, HOSTILE, 1.0, 0.5, 0.1, 0.1, 0.9)
    assert_harmless(Diagnosis((target,), 5, 10, 10).text())
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({f"\u202e{'x' * 9}\x1b[2J": 1}), encoding="utf-8")
    result = CliRunner().invoke(app, ["select", "--config", str(config)])
    assert result.exit_code == 2
    assert_harmless(result.output)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "--batch_tokens"),
        (
            OSError(28, "No space left on device", "store/shard"),
            "store/shard: No space left on device: free some space",
        ),
        (OSError(28, "No space left on device"), "no room left on the disk: free some space"),
        (RuntimeError("[enforce fail] . unexpected pos 64 vs 0"), "no room left on the disk: free some space"),
        (OverflowError("too large"), "too large"),
        (KeyError("format_version"), "unexpected KeyError: 'format_version'"),
        (AssertionError(), "unexpected AssertionError"),
        (RecursionError("deep"), "deep"),
        (KeyboardInterrupt(), "interrupted"),
        (FileNotFoundError(2, "No such file or directory", "a", None, "b"), "a -> b: No such file"),
    ],
)
def test_every_error_is_one_sentence(error, words):
    assert words in sentence(error)


def test_the_umask_is_read_and_left(tmp_path):
    before = current_umask()
    for mask in (0o077, 0o027, 0o022):
        old = os.umask(mask)
        assert current_umask() == mask
        os.umask(old)
    assert current_umask() == before


@pytest.mark.parametrize(
    ("mask", "parent", "file", "folder"),
    [
        (0o022, 0o755, 0o644, 0o755),
        (0o077, 0o755, 0o600, 0o700),
        (0o022, 0o700, 0o600, 0o700),
        (0o002, 0o770, 0o660, 0o770),
        (0o022, 0o1777, 0o644, 0o755),
    ],
)
def test_selections_and_reports_have_no_more_than_umask_and_folder(run, files, tmp_path, mask, parent, file, folder):
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(parent)
    old = os.umask(mask)
    try:
        assert (new_file_mode(place), new_folder_mode(place)) == (file, folder)
        (place / "new").mkdir(mode=0o700)
        (place / "new" / "inside.json").touch(mode=0o600)
        set_modes(place / "new", place)
    finally:
        os.umask(old)
    assert (place / "new").stat().st_mode & 0o777 == folder
    assert (place / "new" / "inside.json").stat().st_mode & 0o777 == file


def test_a_selection_with_prompts_in_a_private_folder_is_private(run, files, tmp_path):
    place = tmp_path / "private"
    place.mkdir(mode=0o700)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = ("--output_dir", place / "selected", "--report", place / "report.html")
        done = run("select", "--config", files / "run.yaml", *options)
    assert done.exit_code == 0, done.output
    for path in (place / "report.html", *(place / "selected").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert len(Selection.load(place / "selected")) == 3
