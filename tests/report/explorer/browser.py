"""Headless Chromium that reaches this machine only, and tells of whatever else it was asked for."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    *("--disable-features=OptimizationHints,MediaRouter,Translate", "--no-default-browser-check"),
)
#: A machine under load may take its time.
PATIENCE_MS = 120_000


@dataclass
class Visit:
    """A tab with the page, what the console complained about, and what was asked of other machines."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def chromium() -> str | None:
    """Where the browser is, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A browser process."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(SWITCHES))
        yield started
        started.close()


@contextlib.contextmanager
def visit(
    started: Any, address: str, *, width: int = 1280, height: int = 900, scheme: str = "light"
) -> Iterator[Visit]:
    """Opens the address and waits for the map. Requests to other machines are cut off and noted."""
    context = started.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = Visit(context.new_page())
    tab.page.set_default_timeout(PATIENCE_MS)

    def check(route: Any) -> None:
        here = urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost")
        if not here:
            tab.outside.append(route.request.url)
        route.continue_() if here else route.abort()

    context.route("**/*", check)
    tab.page.on("console", lambda said: said.type == "error" and tab.complaints.append(said.text))
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.page.goto(address)
    tab.page.wait_for_selector("[data-drawn]")
    yield tab
    context.close()
