"""The explorer of a selection as a folder that is ready to be pushed as a Hugging Face Space.

What stays at home is what `push_to_hub` keeps at home: the target prompts unless they are asked for, and the places of
local files. Features and rows that were not picked are not put in either, so nobody can select again there. The package
goes along as source, so that the Space runs the code that the selection was made with.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import itl_hf
from itl_hf.hub.card import method
from itl_hf.hub.contents import public_selection
from itl_hf.hub.escape import escape

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

_APP = '''"""Click through the selection beside this file."""

import os
from pathlib import Path

from itl_hf import Selection
from itl_hf.report.explorer import gather, serve

explored = gather(Selection.load(Path(__file__).parent / "selection"))
serve(explored, host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")).block_thread()
'''
#: Extras whose packages the Space needs; Gradio itself comes with the Space's `sdk_version`.
_EXTRAS = ("explorer", "report")


def write_space(
    selection: Selection, directory: str | os.PathLike[str], *, include_targets: bool = False, title: str | None = None
) -> Path:
    """Writes the folder, whole or not at all.

    Args:
        selection (`Selection`):
            What the Space shows. The text of its picks becomes as public as the Space.
        directory (`str` or `PathLike`):
            A folder that is empty or not there yet.
        include_targets (`bool`, *optional*, defaults to `False`):
            Put the target prompts in.
        title (`str`, *optional*):
            Name of the Space; made from the numbers if left out.

    Returns:
        `Path`: the folder, for `hf upload --repo-type space user/name folder`.

    Raises:
        `FileExistsError`: The folder holds something.
        `ValueError`: Targets are asked for that were withheld before.
        `importlib.metadata.PackageNotFoundError`: Neither Gradio nor this package is installed.

    Example:
        >>> from itl_hf import Selection
        >>> write_space(Selection.load("selected"), "space").name
        'space'
    """
    target = Path(directory)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty; choose another folder for the Space")
    public = public_selection(selection, include_targets)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as parent:
        draft = Path(parent) / "space"
        public.save(draft / "selection")
        shutil.copytree(Path(itl_hf.__file__).parent, draft / "itl_hf", ignore=shutil.ignore_patterns("__pycache__"))
        (draft / "app.py").write_text(_APP, encoding="utf-8")
        (draft / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(_readme(public, include_targets, title), encoding="utf-8")
        if target.exists():
            target.rmdir()
        os.rename(draft, target)
    return target


def requirements() -> list[str]:
    """What the package needs to show a selection, as lines for pip."""
    lines = []
    for line in metadata.requires("itl-hf") or []:
        need, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if (extra is None or extra[1] in _EXTRAS) and not re.match(r"(itl-hf|gradio)\b", need):
            lines.append(need.strip())
    return sorted(set(lines))


def _readme(selection: Selection, include_targets: bool, title: str | None) -> str:
    how = method(selection.record)
    facts = {
        "title": title or f"{len(selection)} rows picked from {selection.pool_size}",
        "emoji": "🧭",
        "colorFrom": "blue",
        "colorTo": "purple",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": "3.11",
        "app_file": "app.py",
        "pinned": False,
        "tags": ["itl", "data-selection"],
    }
    prompts = "The target prompts are in it." if include_targets else "The target prompts are not in it."
    words = (
        f"Click through {len(selection):,} rows that were picked by {escape(how)} from a pool of "
        f"{selection.pool_size:,}, for {len(selection.targets):,} target prompts: the map, each target, "
        "and what was picked for it.\n\n"
        "`selection/` holds the picked rows with their text, and the places on the map of rows that were not picked. "
        f"{prompts} `itl_hf/` is the code, under Apache-2.0."
    )
    head = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n# {escape(facts['title'])}\n\n{words}\n"
