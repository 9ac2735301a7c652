"""Checks links without a network: `python docs/check_links.py`.

- Every relative link of the repository's Markdown files leads to a file, and its anchor to a heading of that file.
- Every link to a file in the repository's own home names a file that exists.
- With `--site`, nothing in the built site is loaded from another machine: scripts, styles, fonts, pictures, frames.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "recipes", ".github")
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


def markdown_files() -> list[Path]:
    """The repository's Markdown files that readers follow links in."""
    return sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])


def tokens(path: Path) -> Iterator[Token]:
    """The tokens of a Markdown file, those within paragraphs too."""
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub and the site name them."""
    lines = list(tokens(path))
    titles = [inline.content for heading, inline in itertools.pairwise(lines) if heading.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, home: str) -> Iterator[str]:
    """Every link of a file that leads nowhere."""
    for token in tokens(path):
        link = str(token.attrGet("href") or token.attrGet("src") or "")
        inside = re.match(rf"{re.escape(home)}/(?:blob|tree)/main/(.+)", link)
        if not link or (re.match(r"[a-z]+:", link) and not inside):
            continue
        name, _, anchor = unquote(inside[1] if inside else link).partition("#")
        target = (ROOT / name if inside else path.parent / name).resolve() if name else path
        if not target.exists():
            yield f"{path.relative_to(ROOT)}: {link}: there is no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{path.relative_to(ROOT)}: {link}: there is no such heading"


class Loads(HTMLParser):
    """Collects what a page makes the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the address of a script, a style, a picture or a frame."""
        values = dict(attrs)
        if tag in LOADS and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get(LOADS[tag]) or "")


def foreign_loads(page: Path) -> Iterator[str]:
    """Everything that a page of the site loads from another machine."""
    loads = Loads()
    loads.feed(page.read_text(encoding="utf-8"))
    yield from (f"{page.relative_to(ROOT)} loads {one}" for one in loads.addresses if re.match(r"(https?:)?//", one))


def main() -> int:
    """Prints what is wrong; the exit status is 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, help="folder of the built site")
    site = parser.parse_args().site
    home = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    files = markdown_files()
    faults = [fault for path in files for fault in broken_links(path, home)]
    pages = sorted(site.resolve().rglob("*.html")) if site else []
    faults += [fault for page in pages for fault in foreign_loads(page)]
    print("\n".join([*faults, f"{len(files)} files and {len(pages)} pages of the site: {len(faults)} broken links"]))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
