"""The page in a real browser: no requests, no console messages, no overflow on a phone, and hostile text stays text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from itl_hf.report import write_report
from itl_hf.selection.screening.screening import Copy, Screening
from tests.report.standin import selection
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.browser
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as playwright_api:
        running_browser = playwright_api.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield running_browser
        running_browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    texts = [*HOSTILE, "x" * 3000, "an honest row"]
    stand_in = selection(pick_texts=texts, target_texts=HOSTILE, tasks=texts)
    stand_in.record = dataclasses.replace(
        stand_in.record,
        embedder={HOSTILE[0]: HOSTILE[1]},
        noise_rule=HOSTILE[2],
        screening=Screening((Copy(0, 3, 1, "exact"),), (), 1, 0).to_record(),
    )
    return write_report(stand_in, tmp_path_factory.mktemp("page") / "report.html", title=HOSTILE[0])  # type: ignore[arg-type]


def open_page(browser, path, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    page.messages, page.requests = [], []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("dialog", lambda dialog: (page.messages.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_makes_no_requests_and_fits_the_screen(browser, path, width, scheme):
    page = open_page(browser, path, width, scheme)
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith(("data:", path.as_uri()))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    figure = page.locator(".at-desk" if width > 1000 else ".on-phone").first
    assert figure.is_visible()


def test_hostile_text_is_text(browser, path):
    page = open_page(browser, path, 1280, "light")
    assert page.locator("script, img, iframe, [onload], [onerror]").count() == 0
    assert page.locator("h1").inner_text() == HOSTILE[0]
    assert HOSTILE[1] in page.locator("#pick-2 pre").first.inner_text()


def test_a_link_scrolls_to_its_pick(browser, path):
    page = open_page(browser, path, 1280, "light")
    page.locator("#before a", has_text="pick 2").click()
    assert page.url.endswith("#pick-2")
    assert page.locator("#pick-2").evaluate("element => element.getBoundingClientRect().top < innerHeight")


def test_it_is_printed_in_the_light_theme(browser, path):
    page = open_page(browser, path, 1280, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
