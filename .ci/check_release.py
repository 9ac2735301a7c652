"""Checks that a tag belongs to the version in the code and to a section of the changelog: `check_release.py v0.2.0`."""

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def faults(tag: str) -> list[str]:
    """What speaks against releasing this tag."""
    version = runpy.run_path(str(ROOT / "itl_hf" / "version.py"))["__version__"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    result = []
    if tag != f"v{version}":
        result.append(f"the tag is {tag} and itl_hf/version.py says {version}")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        result.append(f"CHANGELOG.md has no line `## [{version}] - YYYY-MM-DD`")
    return result


if __name__ == "__main__":
    if problems := faults(sys.argv[1]):
        sys.exit("\n".join(problems))
