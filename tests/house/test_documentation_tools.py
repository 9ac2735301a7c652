"""The scripts that keep links and releases in order find what they are there to find."""

from __future__ import annotations

import ast
import importlib
import re
import runpy

import pytest

from tests.house.measure import ROOT

HOME = "https://github.com/itl-hf/itl-hf"


@pytest.fixture(scope="module")
def links():
    return runpy.run_path(str(ROOT / "docs" / "check_links.py"))


def test_every_link_of_the_repository_leads_somewhere(links):
    assert [fault for path in links["markdown_files"]() for fault in links["broken_links"](path, HOME)] == []


@pytest.mark.parametrize(
    "link",
    ["nowhere.md", "README.md#nowhere", "#nowhere", f"{HOME}/blob/main/nowhere.py"],
)
def test_a_broken_link_is_reported(links, monkeypatch, tmp_path, link):
    page = tmp_path / "page.md"
    (tmp_path / "README.md").write_text("# A title\n")
    page.write_text(f"[text]({link})")
    monkeypatch.setitem(links["broken_links"].__globals__, "ROOT", tmp_path)
    (fault,) = links["broken_links"](page, HOME)
    assert link in fault


def test_a_link_to_a_heading_is_followed(links, monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Fine-tuning: does it `help`?\n[text](#fine-tuning-does-it-help) and [another](https://example.org)"
    )
    monkeypatch.setitem(links["broken_links"].__globals__, "ROOT", tmp_path)
    assert list(links["broken_links"](page, HOME)) == []


def test_what_a_page_loads_from_another_machine_is_reported(links, monkeypatch, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">fine</a><img src="a.png">'
    )
    monkeypatch.setitem(links["foreign_loads"].__globals__, "ROOT", tmp_path)
    assert list(links["foreign_loads"](page)) == ["page.html loads https://cdn.example/x.js"]


def test_a_tag_that_is_not_the_version_is_refused():
    faults = runpy.run_path(str(ROOT / ".ci" / "check_release.py"))["faults"]("v99.0.0")
    assert any("v99.0.0" in fault for fault in faults)


def test_python_on_the_pages_imports_what_exists():
    pages = [ROOT / "README.md", *(ROOT / "docs" / "guide").glob("*.md"), *(ROOT / "recipes").rglob("*.md")]
    programs = [one for page in pages for one in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)]
    imports = [node for one in programs for node in ast.walk(ast.parse(one)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.split(".")[0] == "itl_hf"]
    assert len(ours) > 3
    missing = [
        f"{node.module}.{alias.name}"
        for node in ours
        for alias in node.names
        if not hasattr(importlib.import_module(node.module), alias.name)
    ]
    assert missing == []
