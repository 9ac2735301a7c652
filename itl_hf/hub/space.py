"""Writes the explorer of a selection as a folder that can be uploaded as a Hugging Face Space.

The folder leaves out what `push_to_hub` leaves out: the target prompts (unless they are included on request) and the
paths of local files. It does not contain features and rows that were not picked either, so selecting again is not
possible in the Space. The source code of the package is included, so that the Space runs the code that the selection
was made with.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from itl_hf.disk.checks import check_new_folder, expand
from itl_hf.disk.whole_files import new_folder
from itl_hf.hub.card import card_title
from itl_hf.hub.contents import public_selection
from itl_hf.hub.escape import escape
from itl_hf.report.names import method_name

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

_APP = '''"""Starts the explorer of the selection in the folder `selection`."""

import os
from pathlib import Path

from itl_hf import Selection
from itl_hf.report.explorer import gather, serve

explorer_data = gather(Selection.load(Path(__file__).parent / "selection"))
serve(explorer_data, host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), public=True).block_thread()
'''
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
#: Extras whose packages the Space needs; Gradio itself comes with the Space's `sdk_version`.
_EXTRAS = ("explorer", "report")


def write_space(
    selection: Selection, directory: str | os.PathLike[str], *, include_targets: bool = False, title: str | None = None
) -> Path:
    """Writes the folder of the Space. If an error occurs, nothing is left behind.

    Args:
        selection (`Selection`):
            The selection that the Space shows. The text of its picks becomes as public as the Space.
        directory (`str` or `PathLike`):
            A folder that is empty or does not exist yet.
        include_targets (`bool`, *optional*, defaults to `False`):
            Whether to include the target prompts.
        title (`str`, *optional*):
            Title of the Space. Defaults to a line with the number of picks and the size of the pool.

    Returns:
        `Path`: The folder; `upload_command` has the line that uploads it.

    Raises:
        `FileExistsError`: If the folder is not empty, or the working directory.
        `ValueError`: If targets are to be included that were not published when the selection was loaded from the Hub.
        `importlib.metadata.PackageNotFoundError`: If Gradio or this package is not installed.

    Example:
        >>> from itl_hf import Selection
        >>> write_space(Selection.load("selected"), "space").name
        'space'
    """
    target = expand(directory)
    check_new_folder(target, "the folder of the Space")
    public = public_selection(selection, include_targets)
    with new_folder(target) as draft:
        public.save(draft / "selection")
        shutil.copytree(Path(__file__).parents[1], draft / "itl_hf", ignore=shutil.ignore_patterns("__pycache__"))
        (draft / "app.py").write_text(_APP, encoding="utf-8")
        (draft / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(_readme(public, include_targets, title), encoding="utf-8")
    return target


def upload_command(folder: Path) -> str:
    """Returns the line that makes a Space of the folder, with your name to be filled in.

    Example:
        >>> upload_command(Path("my space"))
        "hf upload YOUR_NAME/my-space 'my space' . --repo-type space"
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-.") or "selection"
    return f"hf upload YOUR_NAME/{name} {shlex.quote(str(folder))} . --repo-type space"


def requirements() -> list[str]:
    """Returns the packages that the explorer needs, as lines of a requirements.txt.

    torch is the build without CUDA of this machine's version: a Space without a GPU would spend minutes and gigabytes
    on the other one.
    """
    requirements_by_name: dict[str, str] = {}
    for line in metadata.requires("itl-hf") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        name = re.match(r"[\w.-]+", requirement)
        if name and name[0] not in ("itl-hf", "gradio") and (extra is None or extra[1] in _EXTRAS):
            requirements_by_name[name[0]] = requirement.strip()
    torch_version = metadata.version("torch").partition("+")[0]
    if re.fullmatch(r"[0-9.]+", torch_version):  # of a release: only these are in the index for good
        requirements_by_name["torch"] = f"torch=={torch_version}+cpu"
    return [f"--extra-index-url {_TORCH_INDEX}", *sorted(requirements_by_name.values())]


def _readme(selection: Selection, include_targets: bool, title: str | None) -> str:
    metadata_values = {
        "title": title or card_title(selection),
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
    includes_prompts = "includes" if include_targets else "does not include"
    text = (
        f"This Space shows {len(selection):,} rows that were picked by {escape(method_name(selection.record))} from a "
        f"pool of {selection.pool_size:,} for {len(selection.targets):,} target prompts: the map, and each target with "
        "the rows that were picked for it.\n\n"
        "The folder `selection/` contains the picked rows with their text and, of the rows that were not picked, the "
        f"positions on the map. It {includes_prompts} the target prompts. The folder `itl_hf/` contains the code, "
        "under the licence Apache-2.0.\n\n"
        "Locally: `pip install -r requirements.txt gradio && python app.py`."
    )
    header = yaml.safe_dump(metadata_values, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n# {escape(metadata_values['title'])}\n\n{text}\n"
