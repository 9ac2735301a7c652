"""The page in a real browser: no error in its console, no request to another machine, and every control works."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from datasets import Dataset

from itl_hf.hub.space import write_space
from itl_hf.report.explorer import gather, serve

pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.report.explorer.browser import TIMEOUT_MS, browser, chromium, visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium: .ci/install_chromium"),
]
HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script> ![x](http://example.com/x.png) "
    "[y](javascript:alert(3)) ${alert(4)} {{value}} \u202egnp.exe </script><h1>big</h1>"
)


@pytest.fixture(scope="module")
def running_browser():
    expect.set_options(timeout=TIMEOUT_MS)
    with browser() as chromium_process:
        yield chromium_process


@pytest.fixture(scope="module")
def address(explorer_data):
    page = serve(explorer_data)
    yield page.local_url
    page.close()


@pytest.fixture
def tab(running_browser, address):
    with visit(running_browser, address) as visit_tab:
        yield visit_tab
        assert visit_tab.errors == []
        assert visit_tab.outside_requests == []


def map_element(tab):
    return tab.page.locator("[data-drawn]")


def choose(tab, menu, name):
    tab.page.locator(f"{menu} input").click()
    tab.page.get_by_role("option", name=name).click()


def target_position(tab, target):
    """Coordinates of a target on the screen."""
    canvas = tab.page.locator("#itl-map canvas")
    canvas.scroll_into_view_if_needed()
    (x, y), box = tab.page.evaluate(_POSITION, target), canvas.bounding_box()
    return box["x"] + x, box["y"] + y


def isolated_row(example):
    """The row that was not picked, near the middle of the map, whose distance to all other points is the largest."""
    layout, picked_rows = example.selection.layout, set(example.selection.indices.tolist())
    points = np.concatenate([layout.pool, layout.targets])
    points = (points - points.min(0)) / np.ptp(points, axis=0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(len(points))
    rows = [row for row in range(120) if row not in picked_rows and np.abs(points[row] - 0.5).max() < 0.3]
    return max(rows, key=lambda row: distances[row].min())


def row_position(tab, row, zoom):
    """Coordinates of a row of the pool on the screen, for a map that is zoomed in at its middle."""
    canvas = tab.page.locator("#itl-map canvas")
    canvas.scroll_into_view_if_needed()
    (x, y), box = tab.page.evaluate(_POOL_POSITION, row), canvas.bounding_box()
    half = box["width"] / 2, box["height"] / 2
    return box["x"] + half[0] + zoom * (x - half[0]), box["y"] + half[1] + zoom * (y - half[1])


def is_in_view(tab, selector):
    box, size = tab.page.locator(selector).bounding_box(), tab.page.viewport_size
    return box is not None and box["y"] >= 0 and box["y"] + 20 < size["height"]


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_a_row_opens_where_one_looks_wherever_it_is_clicked(running_browser, address, width, height):
    with visit(running_browser, address, width=width, height=height) as tab:
        for rank in (1, 20):
            tab.page.locator("#itl-picks .itl-line").nth(rank - 1).click()
            expect(tab.page.locator("#itl-card h3")).to_have_text(f"Pick {rank}")
            assert is_in_view(tab, "#itl-card h3")
            assert is_in_view(tab, "#itl-card pre >> nth=0")
        if width < 400:
            tab.page.get_by_role("button", name="Close").click()
            expect(tab.page.locator("#itl-card h3")).to_have_count(0)


def test_the_text_of_a_row_that_was_not_picked_is_shown_under_the_pointer(tab, example):
    tab.page.mouse.move(*target_position(tab, 0))
    expect(tab.page.locator(".itl-tip")).to_contain_text("target 0: Target 0")
    # Only the points of the pool: picks are hidden, and the row is far from all other points.
    tab.page.locator("#itl-rank input[type=number]").fill("0")
    expect(map_element(tab)).to_have_attribute("data-drawn", "120 points, 0 picks")
    row = isolated_row(example)
    tip = tab.page.locator(".itl-tip")
    for zoom in (1, 1.5):  # a point is found where it is drawn, whatever the view
        if zoom > 1:
            tab.page.get_by_role("button", name="Zoom in").click()
        tab.page.mouse.move(*row_position(tab, row, zoom))
        expect(tip).to_contain_text(f"row {row} of the pool: {example.pool[row]['prompt']}")
        tab.page.mouse.move(0, 0)
        expect(tip).to_be_hidden()


def test_a_search_reaches_the_rows_that_were_not_picked(tab, example):
    tab.page.locator("#itl-text textarea, #itl-text input").first.fill("CHESS")
    expect(tab.page.locator(".itl-legend")).to_contain_text("contain the text")
    hits = tab.page.locator("#itl-hits")
    expect(hits).to_contain_text("of 120 rows of the pool contain")
    hits.locator(".itl-line").first.click()
    card = tab.page.locator("#itl-card")
    expect(card.locator("h3")).to_contain_text("of the pool")
    expect(card).to_contain_text("about chess, please.")
    expect(card.locator(".itl-values")).to_contain_text("cost")
    expect(card).to_contain_text("show target")


def test_the_map_is_coloured_by_a_column(tab):
    choose(tab, "#itl-mode", "task")
    expect(tab.page.locator(".itl-legend")).to_contain_text("sums (")
    choose(tab, "#itl-mode", "cost")
    expect(tab.page.locator(".itl-legend")).to_contain_text("cost: 1 to 7")


def test_selecting_again_is_out_of_the_way_until_a_row_is_dropped_or_a_weight_changes(tab):
    button = tab.page.locator("#itl-again")
    expect(button).not_to_be_visible()
    choose(tab, "#itl-target", re.compile("^2: "))
    weight = tab.page.locator("#itl-weight input[type=number]")
    weight.fill("8")
    weight.press("Enter")
    expect(button).to_be_visible()
    expect(tab.page.locator("#itl-dropped")).to_contain_text("target 2: 8")
    button.click()
    expect(tab.page.locator("#itl-dropped")).to_contain_text("Selected again")


def test_the_title_names_the_selection_and_its_model_and_filters_say_that_they_are_open(tab):
    assert tab.page.title() == "mine · by-hand · itl_hf"
    content = "getComputedStyle(document.querySelector('#itl-groups .wrap-inner'), '::before').content"
    assert tab.page.evaluate(content) == '"all"'


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_loads_without_errors_and_without_other_machines(running_browser, address, width, scheme):
    with visit(running_browser, address, width=width, height=844, scheme=scheme) as tab:
        expect(map_element(tab)).to_have_attribute("data-drawn", "120 points, 30 picks")
        # The page is never idle, since Gradio keeps a connection open. After two seconds everything has been loaded.
        tab.page.wait_for_timeout(2_000)
        assert tab.page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
        overflow = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0
        assert tab.errors == []
        assert tab.outside_requests == []


def test_the_slider_shows_the_first_picks(tab):
    tab.page.locator("#itl-rank input[type=number]").fill("7")
    expect(map_element(tab)).to_have_attribute("data-drawn", "120 points, 7 picks")
    tab.page.locator("#itl-rank input[type=range]").focus()
    tab.page.keyboard.press("ArrowRight")
    expect(map_element(tab)).to_have_attribute("data-drawn", "120 points, 8 picks")
    expect(tab.page.locator("#itl-curve .itl-hint")).to_contain_text("After 8 of 30 picks")


def test_choosing_a_target_shows_its_picks_and_curve(tab, example):
    tab.page.locator("#itl-target input").click()
    tab.page.get_by_role("option", name=re.compile("^4: ")).click()
    about = tab.page.locator("#itl-about-target")
    expect(about).to_contain_text(example.targets[4]["prompt"])
    expect(about.locator("li")).to_have_count(8)
    expect(tab.page.locator("#itl-curve .itl-hint")).to_contain_text("floor")
    about.locator("button").first.click()
    expect(tab.page.locator("#itl-card h3")).to_contain_text("Pick")


def test_clicking_a_target_on_the_map_shows_its_text(tab, example):
    tab.page.mouse.click(*target_position(tab, 2))
    card = tab.page.locator("#itl-card")
    expect(card.locator("h3")).to_have_text("Target 2")
    expect(card).to_contain_text(example.targets[2]["prompt"])


def test_picks_can_be_opened_with_the_keyboard(tab, example):
    tab.page.locator("#itl-map canvas").focus()
    tab.page.keyboard.press("n")
    expect(tab.page.locator("#itl-card h3")).to_have_text("Pick 1")
    tab.page.keyboard.press("n")
    expect(tab.page.locator("#itl-card h3")).to_have_text("Pick 2")
    tab.page.locator("#itl-picks .itl-line").nth(4).focus()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#itl-card h3")).to_have_text("Pick 5")


def test_dropping_rows_and_selecting_again(tab, example):
    first = int(example.selection.indices[0])
    tab.page.get_by_role("button", name="Drop pick 1", exact=True).click()
    tab.page.get_by_role("button", name="Drop pick 3", exact=True).click()
    expect(tab.page.locator("#itl-dropped")).to_contain_text(
        "2 rows dropped; the selection has not been made again without them yet"
    )
    tab.page.locator("#itl-again").click()
    expect(tab.page.locator("#itl-dropped")).to_contain_text("Selected again")
    expect(tab.page.locator("#itl-picks")).not_to_contain_text(f"Question {first} about")
    expect(tab.page.locator("#itl-mode input")).to_have_value("comparison with the first selection")
    tab.page.get_by_role("tab", name="Compare").click()
    expect(tab.page.get_by_role("heading", name="Only in the first selection")).to_be_visible()
    tab.page.get_by_role("tab", name="Export").click()
    tab.page.locator("#itl-export").click()
    for stem, ending in (("picks", "jsonl"), ("picks", "parquet"), ("selection", "zip")):
        expect(tab.page.locator("#itl-files")).to_contain_text(re.compile(rf"{stem}\s*\.{ending}"))


def test_filters_and_the_comparison_change_list_and_legend(tab):
    tab.page.locator("#itl-text textarea, #itl-text input").first.fill("poems")
    expect(tab.page.locator("#itl-picks")).to_contain_text("of 30 picks pass the filters")
    tab.page.locator("#itl-text textarea, #itl-text input").first.fill("zebra")
    expect(tab.page.locator("#itl-picks")).to_contain_text("No pick passes these filters")
    choose(tab, "#itl-mode", "comparison with cosine")
    expect(tab.page.locator(".itl-legend")).to_contain_text("only in cosine")


def test_hostile_text_is_shown_as_text(running_browser, example):
    rows = [{**row, "prompt": HOSTILE, "task": HOSTILE} for row in example.selection.dataset]
    goals = Dataset.from_list([{"prompt": HOSTILE}] * 6)
    selection = dataclasses.replace(example.selection, dataset=Dataset.from_list(rows), targets=goals)
    page = serve(gather(selection, name=HOSTILE, compare=selection, compare_name=HOSTILE))
    try:
        with visit(running_browser, page.local_url) as tab:
            dialogs = []
            tab.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
            tab.page.locator("#itl-picks .itl-line").first.click()
            expect(tab.page.locator("#itl-card pre").first).to_contain_text("<img src=x onerror=alert(1)><script>")
            expect(tab.page.locator("#itl-card pre").first).to_contain_text("\u27e8U+202E\u27e9gnp.exe")
            tab.page.locator("#itl-target input").click()
            tab.page.get_by_role("option").nth(1).click()
            expect(tab.page.locator("#itl-about-target pre")).to_contain_text("![x](http://example.com/x.png)")
            tab.page.locator("#itl-groups input").click()
            expect(tab.page.get_by_role("option").first).to_contain_text("<img src=x onerror=alert(1)>")
            tab.page.keyboard.press("Escape")
            choose(tab, "#itl-mode", re.compile("comparison with"))
            tab.page.get_by_role("tab", name="Compare").click()
            expect(tab.page.locator(".itl-columns")).to_be_visible()
            tab.page.mouse.move(*target_position(tab, 0))
            expect(tab.page.locator(".itl-tip")).to_contain_text("<img src=x")
            assert tab.page.locator("img[src=x], h1:text-is('big')").count() == 0
            assert (dialogs, tab.errors, tab.outside_requests) == ([], [], [])
    finally:
        page.close()


def test_a_space_runs_from_its_own_folder(running_browser, example, tmp_path):
    space = write_space(example.selection, tmp_path / "space")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    home = {**os.environ, "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": ""}
    with subprocess.Popen([sys.executable, "app.py"], cwd=space, env=home) as app:
        try:
            _wait_until_served(address, app)
            with visit(running_browser, address) as tab:
                expect(tab.page.locator("#itl-target input")).to_have_value("all targets")
                tab.page.locator("#itl-target input").click()
                expect(tab.page.get_by_role("option").nth(1)).to_contain_text("its prompt is not published")
                assert (tab.errors, tab.outside_requests) == ([], [])
        finally:
            app.terminate()


def _wait_until_served(address, app):
    end = time.monotonic() + 5 * TIMEOUT_MS / 1000
    while time.monotonic() < end and app.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"the Space did not start; its exit status is {app.poll()}")


#: Coordinates of a target in pixels of the canvas, computed as in map.js for the initial zoom.
_POSITION = """(number) => {
  const canvas = document.querySelector("#itl-map canvas"), config = window.gradio_config;
  const points = JSON.parse(config.components.find((component) => component.props.elem_id === "itl-map").props.points
    ?? config.components.find((component) => component.props.elem_id === "itl-map").props.props.points);
  const [x, y] = points.targets[number], w = canvas.clientWidth, h = canvas.clientHeight;
  return [w / 2 + (x / 65535 - 0.5) * (w - 44), h / 2 - (y / 65535 - 0.5) * (h - 44)];
}"""
#: The same for a row of the pool.
_POOL_POSITION = _POSITION.replace(
    "points.targets[number]",
    "[2 * number, 2 * number + 1].map((i) => new Uint16Array("
    "Uint8Array.from(atob(points.pool), (letter) => letter.charCodeAt(0)).buffer)[i])",
)
