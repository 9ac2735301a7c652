"""The report: complete and self-contained, and text from the data cannot become HTML."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from markupsafe import Markup

import itl_hf.report.svg as svg
import itl_hf.report.text as report_text
from itl_hf.report import Table, page, write_report
from itl_hf.selection.screening.screening import Copy, Duplicate, Screening
from tests.report.standin import StandInSelection, selection

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(2)>",
    "\"><svg onload='alert(3)'>",
    "&lt;b&gt; {{ 7 * 7 }} {% raw %} ${7*7} `*markdown*` [link](javascript:alert(4))",
    "--> ]]> <!-- </style></title></svg>",
]
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


class Page(HTMLParser):
    """Parses tags, attributes and text of a page; raises if tags are closed in the wrong order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def report_html(stand_in: StandInSelection, tmp_path: Path, with_figures: bool = False, **options: object) -> str:
    """Returns the HTML of the report; the figures are left empty unless `with_figures`, which takes a second."""
    blank = dict.fromkeys(("map", "variance", "gain"), Markup("<svg></svg>"))
    with contextlib.nullcontext() if with_figures else mock.patch.object(page, "figures", return_value=blank):
        return _write_and_read(stand_in, tmp_path, **options)


def _write_and_read(stand_in: StandInSelection, tmp_path: Path, **options: object) -> str:
    return write_report(stand_in, tmp_path / "report.html", **options).read_text(encoding="utf-8")  # type: ignore[arg-type]


def test_the_page_says_what_was_selected_and_how(tmp_path: Path) -> None:
    text = Page(report_html(selection(picks=5, targets=3, pool=40), tmp_path)).text
    assert "5 rows picked from 40" in text
    assert "for 3 target prompts" in text
    assert "ITL" in text
    assert "2.12" in text
    assert "auto: a rule" in text
    assert "40% of the value before any pick" in text
    for i in range(5):
        assert f"question number {i}" in text
        assert f"answer number {i}" in text
    for i in range(3):
        assert f"target prompt {i}" in text


@pytest.mark.parametrize(
    ("acquisition", "unit", "gain"),
    [
        ("itl", True, "information about the targets (nats)"),
        ("cosine", True, "information about the targets (nats)"),
        ("undirected", True, "information about the whole function (nats)"),
        ("vtl", False, "variance of the targets removed"),
        ("ctl", False, "mean correlation with the targets"),
    ],
)
def test_gains_have_the_name_and_unit_of_the_objective(acquisition: str, unit: bool, gain: str, tmp_path: Path) -> None:
    stand_in = selection()
    stand_in.record = dataclasses.replace(stand_in.record, acquisition_name=acquisition)
    html = report_html(stand_in, tmp_path, with_figures=True)
    assert f"with the gain of each: {gain}," in Page(html).text
    assert f"in the order picked: {gain}." in html  # the description of the figure
    assert ("nats" in html) is unit
    assert ("information gained" in html) is (acquisition in ("itl", "cosine"))


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    html = report_html(selection(), tmp_path, with_figures=True)
    assert not re.search(r"<script|<link|<iframe|@import|@font-face", html)
    for tag, attributes in Page(html).tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert value, (tag, name)
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:60])
    assert not re.search(r"url\((?!#)", html)


def test_links_inside_the_page_have_a_target_and_ids_are_unique(tmp_path: Path) -> None:
    tags = Page(report_html(selection(), tmp_path, with_figures=True, tables=[Table("T", ["a"], [["1"]])])).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes.get("href") or attributes.get("xlink:href") or "" for _, attributes in tags]
    missing = {link for link in links if link.startswith("#") and link[1:] not in ids}
    assert missing == set()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_only_text(hostile: str, tmp_path: Path) -> None:
    harmless = [
        tag
        for tag, _ in Page(
            report_html(selection(pick_texts=["a", "b"], target_texts=["c"], tasks=["d", "d"]), tmp_path)
        ).tags
    ]
    stand_in = selection(pick_texts=[hostile, "b"], target_texts=[hostile], tasks=[hostile, hostile])
    embedder = {hostile: hostile, "model": f"org{hostile}"}
    stand_in.record = dataclasses.replace(stand_in.record, noise_rule=hostile, embedder=embedder)
    html = report_html(stand_in, tmp_path, title=hostile)
    parsed_page = Page(html)
    assert [tag for tag, _ in parsed_page.tags if tag not in ("dt", "dd")] == [
        tag for tag in harmless if tag not in ("dt", "dd")
    ]
    assert not any(name.startswith("on") for _, attributes in parsed_page.tags for name in attributes)
    assert parsed_page.text.count(" ".join(hostile.split())) >= 5


def test_hostile_tables_are_only_text(tmp_path: Path) -> None:
    html = report_html(selection(), tmp_path, tables=[Table(HOSTILE[0], [HOSTILE[1]], [[HOSTILE[2]]], HOSTILE[4])])
    assert "<script" not in html
    assert "<img" not in html
    assert all(" ".join(text.split()) in Page(html).text for text in (HOSTILE[0], HOSTILE[2], HOSTILE[4]))


def test_characters_that_hide_or_reorder_text_are_made_visible(tmp_path: Path) -> None:
    text = Page(report_html(selection(pick_texts=["a\x00b\x1bc\u202ed\u2066e\x85f\u200fg\nh\ti"]), tmp_path)).text
    assert "a\u2400b\u241bc\u27e8U+202E\u27e9d\u27e8U+2066\u27e9e\u27e8U+0085\u27e9f\u27e8U+200F\u27e9g h i" in text


def test_text_that_cannot_be_encoded_is_shown() -> None:
    assert report_text.visible("a\ud800b") == "a\ufffdb"


def test_right_to_left_and_other_scripts_are_left_alone(tmp_path: Path) -> None:
    words = "\u05e9\u05dc\u05d5\u05dd \u4f60\u597d \U0001f600"
    assert words in Page(report_html(selection(pick_texts=[words]), tmp_path)).text


def test_what_is_needed_first_comes_first(tmp_path: Path) -> None:
    stand_in = selection(targets=3)
    stand_in.irreducible = np.array([0.0, 0.9, 0.0]) * stand_in.target_variance[0]
    stand_in.target_variance[:, 1] = stand_in.target_variance[0, 1]
    html = report_html(stand_in, tmp_path)
    text = Page(html).text
    order = ["The picks teach", "What to do next", "Worst targets", "Before you train", "Map Each point", "All targets"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert re.findall(r'href="#target-(\d)"', html)[0] == "1"
    assert "noise (standard deviation)" not in text


def test_gained_information_is_shown_with_that_of_the_whole_pool(tmp_path: Path) -> None:
    stand_in = selection()
    gained = float(stand_in.gains.sum())
    assert (
        f"information gained {gained:.2f} nats about the targets, by all picks together"
        in Page(report_html(stand_in, tmp_path)).text
    )
    stand_in.whole_pool_information = np.array([gained + 1])
    assert f"{gained:.2f} of {gained + 1:.2f} nats" in Page(report_html(stand_in, tmp_path)).text
    stand_in.record = dataclasses.replace(stand_in.record, attainable={"exact": False, "rows": 9})
    assert f"{gained:.2f} of at least {gained + 1:.2f} nats" in Page(report_html(stand_in, tmp_path)).text
    for unknown in (float("nan"), gained - 1):
        stand_in.whole_pool_information = np.array([unknown])
        assert f"{gained:.2f} nats" in Page(report_html(stand_in, tmp_path)).text


def test_all_gains_have_the_same_number_of_decimals(tmp_path: Path) -> None:
    stand_in = selection(picks=3)
    stand_in.gains = np.array([0.0974, 0.05, 0.0041])
    rows = stand_in.dataset.remove_columns("itl_gain").add_column("itl_gain", stand_in.gains.tolist())
    stand_in.dataset = rows
    html = report_html(stand_in, tmp_path)
    assert re.findall(r'class="meter"><span>(0[^<]*)</span><span class="track">', html) == [
        "0.0974",
        "0.0500",
        "0.0041",
    ]


def test_tables_have_their_note_and_mark_the_best_number_of_each_column(tmp_path: Path) -> None:
    rows = [["random", "1.9", "0.3"], ["ITL", "1.4", "0.7"]]
    table = Table("Loss", ["trained_on", "loss", "other_loss"], rows, "Lower is better.", best="lowest")
    html = report_html(selection(), tmp_path, tables=[table])
    assert "trained_<wbr>on" in html
    assert re.search(r'<tr><td>random</td><td>1\.9</td><td class="best">0\.3</td></tr>', html)
    assert re.search(r'<tr><td>ITL</td><td class="best">1\.4</td><td>0\.7</td></tr>', html)
    assert "Lower is better." in html


def test_picks_beyond_max_picks_are_not_listed(tmp_path: Path) -> None:
    text = Page(report_html(selection(picks=5), tmp_path, max_picks=2)).text
    assert "The first 2 of 5 are listed" in text
    assert "question number 1" in text
    assert "question number 2" not in text


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    html = report_html(selection(pick_texts=["x" * (report_text.MAX_CHARACTERS + 1234)]), tmp_path)
    assert "(1,234 more characters)" in html
    assert "x" * (report_text.MAX_CHARACTERS + 1) not in html


def test_excerpts_show_where_prompts_of_one_kind_differ(tmp_path: Path) -> None:
    texts = [f"{'Do the following with these words. ' * 20} {word}" for word in ("apple", "pear")]
    html = report_html(selection(pick_texts=texts), tmp_path)
    excerpts = re.findall(r'</span></span><span class="excerpt"[^>]*>([^<]*)</span>', html)
    assert excerpts[0].startswith("Do the following")
    assert excerpts[0].endswith("apple")
    assert excerpts[1].endswith("pear")


def test_coverage_by_task_counts_picks(tmp_path: Path) -> None:
    text = Page(report_html(selection(tasks=["sums", "poems", "sums", "sums", "poems"]), tmp_path)).text
    assert "Picks by task" in text
    assert "sums 3 60% poems 2 40%" in text


def test_coverage_is_compared_with_the_pool(tmp_path: Path) -> None:
    stand_in = selection(tasks=["sums", "poems", "sums", "sums", "poems"])
    coverage = {"column": "task", "rows": {"news": 30, "sums": 8, "poems": 2}, "others": 0}
    stand_in.record = dataclasses.replace(stand_in.record, coverage=coverage)
    text = Page(report_html(stand_in, tmp_path)).text
    assert "sums 3 60% 20.0% poems 2 40% 5.0%" in text
    assert "1 further group of the pool has no picks; it holds 75% of its rows." in text


def test_warnings_come_before_the_map(tmp_path: Path) -> None:
    stand_in = selection(picks=40, pool=60)
    copies = (Copy(1, int(stand_in.indices[2]), 2, "exact"), Copy(2, 55, None, "near", 0.8))
    screening = Screening(copies, (Duplicate(3, 0, "near", 0.75),), 2, 1).to_record()
    stand_in.record = dataclasses.replace(stand_in.record, screening=screening, undirected=True)
    stand_in.gains[20:] = 1e-6
    text = Page(report_html(stand_in, tmp_path)).text
    for sentence in (
        "1 target is among the picks",
        f"target 1 is row {stand_in.indices[2]} of the pool, pick 3 : word for word",
        "target 2 is row 55 of the pool: nearly the same text (80%)",
        "pick 4 is a copy of pick 1 : nearly the same text (75%)",
        "The last 20 of the 40 picks give less than 1%",
        "the objective did not depend on them",
    ):
        assert sentence in text, sentence
    assert text.index("1 target is among") < text.index("Map Each point")


def test_the_page_says_if_screening_found_nothing_or_was_not_done(tmp_path: Path) -> None:
    stand_in = selection()
    assert "made by an earlier version, which did not check" in Page(report_html(stand_in, tmp_path)).text
    stand_in.record = dataclasses.replace(stand_in.record, screening=Screening().to_record())
    assert "No problem was found:" in Page(report_html(stand_in, tmp_path)).text


def test_a_pick_lists_the_targets_whose_variance_it_removed(tmp_path: Path) -> None:
    stand_in = selection(picks=2, targets=2)
    stand_in.target_variance = np.array([[2.0, 1.0], [1.0, 1.0], [1.0, 0.25]])
    html = report_html(stand_in, tmp_path)
    assert '<a href="#target-0">target 0</a>: this pick removed 50% of its variance' in html
    assert '<a href="#target-1">target 1</a>: this pick removed 75% of its variance' in html
    assert '<a href="#pick-2">pick 2</a> (75%)' in html


def test_targets_out_of_reach_are_listed(tmp_path: Path) -> None:
    stand_in = selection(targets=3)
    stand_in.irreducible = np.array([0.0, 0.0, 0.9 * 2])
    stand_in.target_variance[:, 2] = 2.0
    text = Page(report_html(stand_in, tmp_path)).text
    assert "This pool cannot teach 1 target: 2." in text
    assert "The picks teach 2 of 3 targets; this pool cannot teach 1." in text
    assert "Add rows like target 2 to the pool: it has none that teach it." in text
    assert "100% of its variance is left, 90% is irreducible" in text


def test_of_too_many_targets_the_worst_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_TARGETS", 3)
    stand_in = selection(targets=9)
    stand_in.reach[:] = 0.9
    stand_in.irreducible = stand_in.target_variance[0] * ([0.0] * 8 + [0.9])
    html = report_html(stand_in, tmp_path)
    assert re.findall(r'id="target-(\d)"', html) == ["8", "0", "1"]
    assert "3 of 9 are listed" in Page(html).text


def test_without_a_group_column_there_is_no_section_about_groups(tmp_path: Path) -> None:
    assert "Picks by" not in report_html(selection(), tmp_path)


def test_figures_follow_the_theme(tmp_path: Path) -> None:
    html = report_html(selection(), tmp_path, with_figures=True)
    assert html.count('<svg role="img"') == 6  # three figures, each for desk and phone
    for color in svg.THEME:
        assert color not in html
    assert "prefers-color-scheme: dark" in html


def test_the_same_selection_gives_the_same_page(tmp_path: Path) -> None:
    assert report_html(selection(), tmp_path, with_figures=True) == report_html(
        selection(), tmp_path, with_figures=True
    )


def test_a_failed_report_leaves_the_old_one(tmp_path: Path) -> None:
    report_html(selection(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    broken = selection()
    broken.gains = np.array(["no number"])
    with pytest.raises((TypeError, ValueError)):
        report_html(broken, tmp_path, with_figures=True)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert write_report(selection(), tmp_path / "a" / "b" / "report.html").is_file()  # type: ignore[arg-type]


def test_a_negative_max_picks_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_picks"):
        report_html(selection(), tmp_path, max_picks=-1)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_the_extra_the_error_names_it(package: str) -> None:
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest)\n"
        "try:\n    import itl_hf.report\nexcept ImportError as error:\n    print(error)"
    )
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert package in process.stdout
    assert "pip install 'itl-hf[report]'" in process.stdout
