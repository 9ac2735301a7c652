"""`itl-hf doctor` finds what is wrong with a machine, and says what to do."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import namedtuple

import pytest

from itl_hf.cli import doctor_checks
from itl_hf.cli.doctor_checks import Check, all_checks
from itl_hf.selection import exactness_check
from itl_hf.selection.exactness_check import check_exactness


def by_name(checks):
    return {check.name: check for check in checks}


def test_it_looks_at_everything_and_prints_it(run):
    done = run("doctor", "--json")
    facts = json.loads(done.stdout)
    names = {check["name"] for check in facts["checks"]}
    assert {"python", "torch", "processors", "models (HF_HUB_CACHE)", "exactness, linear", "exactness, rbf"} <= names
    assert done.exit_code == (1 if facts["wrong"] else 0)
    for check in facts["checks"]:
        assert check["verdict"] in ("ok", "note", "wrong")
        assert check["remedy"] or check["verdict"] != "wrong"


def test_picks_are_exact_on_this_machine():
    assert all(result.is_exact for result in check_exactness(seed=3))


def test_wrong_picks_are_found(monkeypatch):
    """As on hardware that computes wrongly: two picks are exchanged, or a gain is off."""
    select = exactness_check.select_rows

    def worse(*arguments, **options):
        picks = select(*arguments, **options)
        return dataclasses.replace(picks, indices=picks.indices[::-1].copy())

    monkeypatch.setattr(exactness_check, "select_rows", worse)
    assert not any(result.is_exact for result in check_exactness())
    assert {check.verdict for check in doctor_checks.exactness()} == {"wrong"}

    def off(*arguments, **options):
        picks = select(*arguments, **options)
        return dataclasses.replace(picks, gains=picks.gains * 1.01)

    monkeypatch.setattr(exactness_check, "select_rows", off)
    assert not any(result.is_exact for result in check_exactness())


@pytest.mark.parametrize(
    ("version", "verdict", "text"),
    [(None, "wrong", "not installed"), ("0.1", "wrong", "is needed"), ("99", "ok", "99")],
)
def test_bounds_of_packages(monkeypatch, version, verdict, text):
    lines = ["torch>=2.6", 'gradio>=6.31; extra == "explorer"']
    monkeypatch.setattr(doctor_checks.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(doctor_checks, "_version", lambda name: version)
    torch = by_name(doctor_checks.packages())["torch"]
    assert (torch.verdict, text in torch.text) == (verdict, True)
    assert verdict == "ok" or torch.remedy == "pip install 'torch>=2.6'"


def test_a_full_disk_and_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 2**30))
    full = doctor_checks._folder("models", tmp_path / "not" / "yet", "HF_HOME")
    assert (full.verdict, "HF_HOME" in full.remedy) == ("wrong", True)
    (tmp_path / "file").touch()
    assert doctor_checks._folder("models", tmp_path / "file", "HF_HOME").verdict == "wrong"


def test_a_check_that_fails_is_reported_and_the_others_go_on(monkeypatch, run):
    def broken():
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor_checks, "devices", broken)
    checks = by_name(all_checks())
    assert "no driver" in checks["broken"].text
    assert "exactness, linear" in checks
    done = run("doctor")
    assert done.exit_code == 1
    assert "wrong" in done.output


def test_a_line_has_its_remedy():
    assert Check("a", "wrong", "b", "c").line().splitlines() == ["wrong   a: b", "        -> c"]
