"""Measures how fast the page is with many points.

Command: `python -m tests.report.explorer.measure [rows ...] [--output file.json]`

Times are taken inside the page, from the navigation or the key to the picture that follows it, in headless Chromium
with software rendering on this machine's processors. Other programs that use them make the times longer: the load is
measured too, and of ten rounds the fastest, the median and the slowest are given. `--pictures folder` saves
screenshots.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars
from PIL import Image

from itl_hf.report.explorer import gather, serve
from tests.report.explorer.browser import browser, visit
from tests.report.explorer.example import Example, make_example

ROUNDS = 10
#: Milliseconds from the navigation to the first picture of the map.
_FIRST = """performance.getEntriesByName("itl-first-map")[0].startTime"""
#: Resolves with the milliseconds from a change of the slider's number to the map that shows it.
_SLIDE = """(rank) => new Promise((resolve) => {
  const map = document.querySelector("[data-drawn]"), number = document.querySelector("#itl-rank input[type=number]");
  const start = performance.now();
  new MutationObserver((_, observer) => {
    if (map.dataset.drawn.endsWith(` ${rank} picks`)) { observer.disconnect(); resolve(performance.now() - start); }
  }).observe(map, { attributes: true });
  number.value = rank;
  number.dispatchEvent(new Event("input", { bubbles: true }));
})"""
#: Resolves with the milliseconds from a key that moves the map to the next picture.
_MOVE = """(key) => new Promise((resolve) => {
  const map = document.querySelector("[data-drawn]"), start = performance.now();
  new MutationObserver((_, observer) => { observer.disconnect(); resolve(performance.now() - start); })
    .observe(map, { attributes: true });
  document.querySelector("#itl-map canvas").dispatchEvent(new KeyboardEvent("keydown", { key }));
})"""

#: Milliseconds that the search for the points under the pointer takes, at 100 places of the map.
_HOVER = """() => {
  const canvas = document.querySelector("#itl-map canvas"), box = canvas.getBoundingClientRect();
  const place = (i) => ({ pointerId: 1, clientX: box.left + box.width * (i % 10 + 0.5) / 10,
    clientY: box.top + box.height * (i / 10 + 0.5) / 10 });
  const start = performance.now();
  for (let i = 0; i < 100; i++) canvas.dispatchEvent(new PointerEvent("pointermove", place(i)));
  return (performance.now() - start) / 100;
}"""


def measure(example: Example, pictures: Path | None = None) -> dict[str, Any]:
    """Returns the seconds and milliseconds that a visitor waits for the page."""
    page = serve(gather(example.selection, pool=example.pool, store=example.store))
    timings: dict[str, Any] = {"rows": len(example.pool), "picks": len(example.selection), "processors": os.cpu_count()}
    # Other processes may have used the processors during the measurement.
    timings["load_average"] = round(os.getloadavg()[0], 1)
    try:
        with browser() as running_browser:
            firsts = []
            for _ in range(3):
                with visit(running_browser, page.local_url) as tab:
                    firsts.append(tab.page.evaluate(_FIRST) / 1000)
            with visit(running_browser, page.local_url) as tab:
                ranks = [3 + 7 * i for i in range(ROUNDS)]
                slides = [tab.page.evaluate(_SLIDE, rank) for rank in ranks]
                moves = _moves(tab)
                tab.page.locator("#itl-mode input").click()
                tab.page.get_by_role("option", name="task").click()
                tab.page.get_by_text("sums (").wait_for()
                timings |= {
                    "first_map_seconds": round(statistics.median(firsts), 2),
                    "slider_milliseconds": _spread(slides),
                    "move_milliseconds": _spread(moves),
                    "move_coloured_milliseconds": _spread(_moves(tab)),
                    "hover_milliseconds": round(tab.page.evaluate(_HOVER), 2),
                    "click_to_text_seconds": _timed(tab, "#itl-picks .itl-line >> nth=3", "#itl-card h3"),
                }
                tab.page.get_by_role("button", name="Drop pick 1", exact=True).click()
                tab.page.get_by_text("1 row dropped").wait_for()
                timings["select_again_seconds"] = _timed(tab, "#itl-again", "text=Selected again")
            if pictures is not None:
                _photograph(running_browser, page.local_url, pictures)
    finally:
        page.close()
    return timings


def _moves(tab: Any) -> list[float]:
    tab.page.evaluate(_MOVE, "0")
    tab.page.evaluate(_MOVE, "+")
    return [tab.page.evaluate(_MOVE, key) for key in ("ArrowLeft", "ArrowRight") * (ROUNDS // 2)]


def _spread(milliseconds: list[float]) -> dict[str, float]:
    fastest, slowest = min(milliseconds), max(milliseconds)
    values = {"fastest": fastest, "median": statistics.median(milliseconds), "slowest": slowest}
    return {name: round(value, 1) for name, value in values.items()}


def _timed(tab: Any, button: str, answer: str) -> float:
    start = time.perf_counter()
    tab.page.locator(button).click()
    tab.page.locator(answer).first.wait_for()
    return round(time.perf_counter() - start, 2)


def _photograph(running_browser: Any, address: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in ((1440, 900), (390, 844)):
        for scheme in ("light", "dark"):
            with visit(running_browser, address, width=width, height=height, scheme=scheme) as tab:
                tab.page.locator("#itl-picks .itl-line").nth(2).click()
                tab.page.locator("#itl-card h3").wait_for()
                tab.page.locator("#itl-target input").click()
                tab.page.get_by_role("option").nth(2).click()
                tab.page.locator("#itl-about-target li").first.wait_for()
                tab.page.wait_for_timeout(500)
                tab.page.evaluate("window.scrollTo(0, 0)")
                shot = tab.page.screenshot(full_page=width < 600)
                Image.open(io.BytesIO(shot)).save(folder / f"explorer-{width}-{scheme}.webp", quality=80)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[50_000, 200_000])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    disable_progress_bars()
    timings = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            example = make_example(Path(folder), rows=rows, targets=24, picks=96, dimension=64)
            timings.append(measure(example, options.pictures and options.pictures / str(rows)))
    text = json.dumps(timings, indent=2) + "\n"
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
