"""What the commands print for `-h`, and without any argument."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", [[], ["select"], ["export"], ["train"]], ids=" ".join)
def test_short_and_long_help_are_the_same(run, command):
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    assert "Usage:" in short.output


def test_train_without_arguments_says_that_the_data_is_missing(run):
    pytest.importorskip("trl")
    assert "--dataset_name is missing: the rows to pick from" in str(run("train").exception)


def test_an_endpoint_needs_a_model_name_and_an_address(run, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    rows = str(tmp_path / "rows.jsonl")
    options = ("--pool", rows, "--targets", rows, "--num_examples", "1", "--output_dir", tmp_path / "out")
    for more in ([], ["--url", "http://127.0.0.1:9"], ["--model", "m"]):
        assert "needs --url" in str(run("select", *options, "--embedder", "endpoint", *more).exception)
