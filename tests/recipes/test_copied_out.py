"""Recipe folders can be copied to another machine: they import public names of the package and their own files only."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

REPOSITORY = Path(__file__).parents[2]
#: Each folder with the modules that its commands run.
RECIPES = {"instruction_tuning": ["sft"], "active_rounds": ["sft"], "test_time": ["__main__"]}
RECIPES |= {"less": ["__main__"], "learnability": ["__main__"]}
#: Sub-packages with documented names of their own, beside the names of `itl_hf`.
PUBLIC_PACKAGES = {"itl_hf", "itl_hf.embedding", "itl_hf.report", "itl_hf.text", "itl_hf.training"}
PUBLIC_PACKAGES |= {"itl_hf.selection.baselines"}
#: Imports the copied module while the repository's recipes cannot be imported.
IMPORT_COPY = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("recipes", "tests"):
            raise ImportError(f"{name} is not on the other machine")

sys.meta_path.insert(0, Refuse())
module = importlib.import_module(sys.argv[1])
print(module.__file__)
"""


def package_imports(path):
    """Yields (module, name) for every import of `itl_hf`, `recipes` or `tests` in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            imports = [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imports = [(alias.name, None) for alias in node.names]
        else:
            continue
        yield from (pair for pair in imports if pair[0].split(".")[0] in ("itl_hf", "recipes", "tests"))


@pytest.mark.parametrize("folder", [*RECIPES, "quickstart"])
def test_a_recipe_imports_public_names_only(folder):
    for path in sorted((REPOSITORY / "recipes" / folder).glob("*.py")):
        for module, name in package_imports(path):
            if folder == "quickstart" and module.startswith("recipes."):  # the quickstart may import its own files
                continue
            assert module in PUBLIC_PACKAGES, f"{path.name} imports {module}"
            assert name in importlib.import_module(module).__all__, f"{path.name}: {module}.{name} is not public"


@pytest.mark.parametrize(("folder", "modules"), RECIPES.items(), ids=list(RECIPES))
def test_a_copied_recipe_can_be_imported(tmp_path, folder, modules):
    shutil.copytree(REPOSITORY / "recipes" / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    # The package is found, the repository's folder is not on the path: only what was copied and what is installed is.
    package = tmp_path / "installed"
    package.mkdir()
    (package / "itl_hf").symlink_to(REPOSITORY / "itl_hf")
    for module in modules:
        result = subprocess.run(
            [sys.executable, "-c", IMPORT_COPY, f"{folder}.{module}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.strip()) == tmp_path / folder / f"{module}.py"


@pytest.mark.parametrize(("folder", "modules"), RECIPES.items(), ids=list(RECIPES))
def test_a_recipe_opens_with_its_launch_command(folder, modules):
    for module in modules:
        text = ast.get_docstring(ast.parse((REPOSITORY / "recipes" / folder / f"{module}.py").read_text("utf-8")))
        command = text.split("\n\n")[1].strip()
        assert command.startswith(f"python -m recipes.{folder}"), command
