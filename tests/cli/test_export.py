"""`itl-hf export`."""

from __future__ import annotations

import json

from tests.selection.export.rows import PAIRS, select


def test_the_command_writes_what_the_method_writes(run, tmp_path):
    selection = select(PAIRS)
    selection.save(tmp_path / "selected")
    arguments = ("export", tmp_path / "selected", "--format", "axolotl", "--path", tmp_path / "out", "--name", "mine")
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["rows"] == len(PAIRS)
    selection.export(tmp_path / "other", "axolotl", name="mine")
    for file in ("mine.jsonl", "mine.axolotl.yaml"):
        expected = (tmp_path / "other" / file).read_text().replace("/other/", "/out/")
        assert (tmp_path / "out" / file).read_text() == expected
    assert "overwrite" in str(run(*arguments).exception)


def test_csv_is_no_choice(run, tmp_path):
    result = run("export", tmp_path, "--format", "csv", "--path", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert "csv" in result.output
