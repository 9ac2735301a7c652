"""Hooks of MkDocs: pages from all over the repository, links that work on GitHub and on the site, and formulas.

Pages are written for a reader on GitHub: links are relative paths within the repository. When the site is built,

- the README, CONTRIBUTING, CHANGELOG, SECURITY, the recipes' pages and the notebooks (which are not run) become pages
  beside those of `docs/`;
- a link to a file that is a page or a picture of the site leads there, any other link leads to the repository's home;
- formulas between dollar signs become MathML, which browsers display without a script;
- pages load nothing from other sites: the notebooks' pictures are those of the site.
"""

from __future__ import annotations

import html
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

import mkdocs.plugins
from latex2mathml.converter import convert
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
#: Files outside `docs/` that become pages, by their path in the repository.
PAGES = {"README.md": "index.md"} | {name: name.lower() for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
PICTURES = {".svg", ".png", ".webp"}


def on_config(config: Any) -> Any:
    """Adds the link to the repository, whose address is in `pyproject.toml`."""
    config.extra["social"] = [{"icon": "fontawesome/brands/github", "link": HOME, "name": "Repository"}]
    return config


@mkdocs.plugins.event_priority(100)
def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and pictures that are not in `docs/`."""
    for path in sorted(ROOT.glob("recipes/**/*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in PICTURES | {".md"} and "outputs" not in path.parts:
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        text, resources = MarkdownExporter().from_filename(str(path), resources={"unique_key": path.stem})
        text = _without_foreign_pictures(text)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for picture, data in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{picture}", content=data))
    return files


def _without_foreign_pictures(text: str) -> str:
    """Returns a notebook's text without pictures of other sites, which pages would load: the badge of Colab becomes its
    words, and pictures of the repository, which Colab needs by address, are those beside the page.
    """
    text = re.sub(r"!\[([^\]]*)\]\(https://colab\.research\.google\.com/[^)]*\)", r"\1", text)
    return text.replace(f"({HOME}/raw/main/", "(../")


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Rewrites the page's links, and indents what belongs to a list item as far as Python-Markdown wants it."""
    pieces = re.split(r"^( *```.*?^ *```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    target = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
    pieces[::2] = [target.sub(lambda match: _link(match[1], page, files), text) for text in pieces[::2]]
    return re.sub(r"^ {2,3}(?=\S)", "    ", "".join(pieces), flags=re.MULTILINE)


def on_page_content(content: str, **_: Any) -> str:
    """Replaces the formulas by MathML."""
    content = re.sub(r'<span class="arithmatex">\\\((.+?)\\\)</span>', lambda m: _formula(m[1], "inline"), content)
    block = r'<div class="arithmatex">\s*\\\[(.+?)\\\]\s*</div>'
    return re.sub(block, lambda m: _formula(m[1], "block"), content, flags=re.DOTALL)


def _formula(latex: str, display: str) -> str:
    return convert(html.unescape(latex.strip()), display=display)


def _link(link: str, page: Any, files: Any) -> str:
    """The link as the site needs it: to the page of a file, else to the file in the repository's home."""
    if re.match(r"[a-z]+:|#|/", link):
        return link
    path, *anchor = link.split("#")
    source = _repository_path(page.file.src_uri)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    for name in (target, f"{target}/README.md"):
        uri = _site_path(name)
        if files.get_file_from_path(uri):
            return "#".join([posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or "."), *anchor])
    return f"{HOME}/blob/main/{'#'.join([target, *anchor])}" if (ROOT / target).exists() else link


def _site_path(name: str) -> str:
    """Where the site has a file of the repository."""
    if name.startswith("notebooks/"):
        return name.replace(".ipynb", ".md")
    return PAGES.get(name, name.removeprefix("docs/"))


def _repository_path(uri: str) -> str:
    """The file of the repository that a page of the site is made from."""
    sources = {page: name for name, page in PAGES.items()}
    if uri in sources or uri.startswith(("recipes/", "notebooks/")):
        return sources.get(uri, uri)
    return f"docs/{uri}"
