"""`itl-hf estimate`: fields of its output, what it refuses, and figures that can be counted by hand."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from itl_hf.cli.main import app
from itl_hf.selection import calculator
from itl_hf.selection.calculator import SelectionSizes, estimate_cost

SIZES = ("estimate", "--rows", "1000000", "--dimension", "16", "--num_examples", "10", "--targets", "4")


def call(*words):
    return CliRunner().invoke(app, [*words])


@pytest.fixture
def steady_clock(monkeypatch):
    """A machine that takes 1 second and a second for each 1,000 rows."""
    monkeypatch.setattr(calculator, "time_picking", lambda kernel, rows, *sizes: 1 + rows / 1000)


def test_json_of_one_and_of_eight_processes(steady_clock):
    one = json.loads(call(*SIZES, "--json").stdout)
    eight = json.loads(call(*SIZES, "--num_processes", "8", "--json").stdout)
    assert one["seconds"] == pytest.approx(1001)
    own_rows = -(-123 // 8) * 8192  # 123 blocks
    assert eight["seconds"] == pytest.approx(1 + own_rows / 1000)
    assert one["disk_bytes"] == eight["disk_bytes"] == 64_000_000
    assert (one["traffic_bytes"], one["bytes_per_pick"]) == (0, 0)
    assert eight["bytes_per_pick"] == 16 * 8
    assert eight["memory_bytes"] < one["memory_bytes"]


def test_traffic_of_a_pick_does_not_depend_on_the_rows(steady_clock):
    costs = [estimate_cost(SelectionSizes(rows, 16, 10, 4, 2)) for rows in (10**5, 10**9)]
    assert costs[0].bytes_per_pick == costs[1].bytes_per_pick
    assert costs[0].traffic_bytes == costs[1].traffic_bytes


def test_text_of_a_small_pool_that_is_timed_here():
    result = call("estimate", "--rows", "500", "--dimension", "8", "--num_examples", "5", "--targets", "2")
    assert result.exit_code == 0, result.output
    assert "500 random rows" in result.stdout
    assert "for each process" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rows", "5", "--dimension", "8", "--num_examples", "9"), "num_examples=9 is more than rows=5"),
        (("--rows", "0", "--dimension", "8", "--num_examples", "9"), "rows must be at least 1"),
        (("--rows", "5", "--num_examples", "2"), "give --dimension, or --model"),
        (("--rows", "5", "--dimension", "8", "--num_examples", "2", "--kernel", "x"), "kernel"),
    ],
)
def test_wrong_sizes_are_refused(words, message):
    result = call("estimate", *words)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
