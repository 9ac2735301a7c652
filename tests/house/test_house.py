"""Figures of `tests.house.measure` that must not get worse, and what README and CONTRIBUTING promise about files."""

from __future__ import annotations

import re

import itl_hf
from tests.house.measure import ROOT, import_graph, measure_arguments, measure_names, modules_in_circles

#: Participles used as names, per 1,000 names that the package binds.
MOST_PARTICIPLES = 1.0
#: Parameters of a function outside `cli`: those of `select_rows`.
MOST_PARAMETERS = 16
#: Words of the README.
MOST_WORDS = 1000
#: Methods of `Selection` that call a later part of the package when they are used.
CONVENIENCES = {
    ("itl_hf.selection.result.selection", later)
    for later in (
        "itl_hf.hub.publish",
        "itl_hf.hub.restore",
        "itl_hf.report.page",
    )
}


def test_names_are_nouns_and_verbs():
    names = measure_names()
    assert names["participles_per_1000"] <= MOST_PARTICIPLES, "python -m tests.house.measure --names lists them"


def test_no_function_has_too_many_parameters():
    counts = {name: count for name, count in measure_arguments().items() if not name.startswith("itl_hf/cli/")}
    assert max(counts.values()) <= MOST_PARAMETERS, counts


def test_modules_do_not_import_each_other_in_circles():
    graph = import_graph()
    graph.remove_edges_from(CONVENIENCES)
    assert modules_in_circles(graph) == []


def test_the_readme_is_short_and_begins_with_the_installation():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    assert "pip install" in "\n".join(text.splitlines()[:45])


def test_every_path_in_contributing_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w./]+(?:\.py|\.md|\.yml|/))`", text))
    assert len(paths) > 50
    homes = (ROOT, ROOT / "itl_hf", ROOT / ".github" / "workflows")
    assert [path for path in sorted(paths) if not any((home / path).exists() for home in homes)] == []


def test_the_api_reference_has_every_public_name():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: itl_hf\.(\w+)$", pages, re.MULTILINE)) | {
        name.rpartition(".")[2] for name in re.findall(r"^::: (itl_hf\.[\w.]+)$", pages, re.MULTILINE)
    }
    assert sorted(set(itl_hf.__all__) - documented) == []
