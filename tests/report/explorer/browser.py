"""Headless Chromium that can reach this machine only and lists its requests to other machines."""

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
#: Long enough for a busy machine.
TIMEOUT_MS = 120_000


@dataclass
class Visit:
    """A tab with the page, the errors in its console, and its requests to other machines."""

    page: Page
    errors: list[str] = field(default_factory=list)
    outside_requests: list[str] = field(default_factory=list)


def chromium() -> str | None:
    """Path of the browser, or `None` if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Starts a browser and closes it at the end."""
    with sync_playwright() as playwright:
        running_browser = playwright.chromium.launch(executable_path=chromium(), args=list(SWITCHES))
        yield running_browser
        running_browser.close()


@contextlib.contextmanager
def visit(
    running_browser: Any, address: str, *, width: int = 1280, height: int = 900, scheme: str = "light"
) -> Iterator[Visit]:
    """Opens the address and waits for the map. Requests to other machines are aborted and listed."""
    context = running_browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = Visit(context.new_page())
    tab.page.set_default_timeout(TIMEOUT_MS)

    def check(route: Any) -> None:
        is_local = urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost")
        if not is_local:
            tab.outside_requests.append(route.request.url)
        route.continue_() if is_local else route.abort()

    context.route("**/*", check)
    tab.page.on("console", lambda message: message.type == "error" and tab.errors.append(message.text))
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.goto(address)
    tab.page.wait_for_selector("[data-drawn]")
    yield tab
    context.close()
