"""What is built: wheel and sdist hold what they should and nothing else, and the wheel works outside the checkout.

`make test-wheel`. The wheel is installed without its dependencies into an environment of its own that sees the packages
of this one, so that no index is asked and no minute is spent.
"""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
IN_SDIST = {
    *("itl_hf", "recipes", "tests", "notebooks", "docs", "requirements"),
    *(
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "mkdocs.yml",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    ),
}


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> dict[str, Path]:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    package = {name for name in names if name.startswith("itl_hf/")}
    assert package == {name for name in tracked() if name.startswith("itl_hf/")}
    information = {PurePosixPath(name).name for name in names - package}
    assert {PurePosixPath(name).parts[0].split("-")[0] for name in names - package} == {"itl_hf"}
    assert information == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"}


def test_the_sdist_holds_what_is_tracked_and_nothing_else(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {PurePosixPath(name).relative_to(PurePosixPath(name).parts[0]) for name in archive.getnames()}
    files = {str(name) for name in names}
    assert {name.parts[0] for name in names} <= IN_SDIST
    expected = {name for name in tracked() if PurePosixPath(name).parts[0] in IN_SDIST}
    assert files - {"PKG-INFO"} == expected


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory) -> Path:
    """The `itl-hf` of a new environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    place = sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)})
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--prefix", str(folder)]
    subprocess.run([*install, "--ignore-installed", str(built["wheel"])], check=True)
    # A folder in a .pth file comes after the environment's own, and its .pth files (an editable checkout) do not count.
    (Path(place) / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    script = folder / "bin" / "itl-hf"
    # pip wrote the interpreter that it ran under into the script.
    body = script.read_text(encoding="utf-8").split("\n", 1)[1]
    script.write_text(f"#!{folder / 'bin' / 'python'}\n{body}", encoding="utf-8")
    return script


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"prompt": f"{text} ({i})", "completion": "yes"} for i in range(4) for text in SENTENCES]
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "targets.txt").write_text("\n".join(SENTENCES[:2]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def call(installed, home):
    """Runs `itl-hf` outside the checkout; what it said as JSON."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

    def run(*words: object, json_wanted: bool = True):
        command = [str(installed), *map(str, words), *(["--json"] if json_wanted else [])]
        done = subprocess.run(
            command, cwd=home, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if json_wanted else done.stdout

    return run


def test_it_is_the_wheel_that_runs(installed, home):
    code = "import itl_hf, json; print(json.dumps([itl_hf.__file__, itl_hf.__version__]))"
    done = subprocess.run(
        [str(installed.parent / "python"), "-c", code], cwd=home, capture_output=True, text=True, check=True
    )
    path, version = json.loads(done.stdout)
    assert Path(path).is_relative_to(installed.parents[1])
    assert version in built_version(installed)


def built_version(installed: Path) -> str:
    return next(path.name for path in installed.parents[1].rglob("itl_hf-*.dist-info"))


def test_every_command(call, home):
    listed = call("--help", json_wanted=False).split("Commands:\n")[1].split("\n\n")[0]
    commands = set(re.findall(r"^  (\w+) ", listed, re.MULTILINE))
    model, store = ("--model", "model"), ("--store", "features")
    assert call("embed", "pool.jsonl", *model, *store, "--dry_run")["missing_rows"] == 24
    assert call("embed", "pool.jsonl", *model, *store)["rows"] == 24
    select = ("select", "--pool", "pool.jsonl", "--targets", "targets.txt", "--num_examples", 4, *model, *store)
    said = call(*select, "--output_dir", "selected", "--report", "report.html")
    assert said["picks"] == 4
    assert (home / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert call("report", "selected", "--path", "again.html")["bytes"] > 10_000
    assert call("diagnose", "selected")["picks"] == 4
    assert call("push", "selected", "me/subset", "--preview", "preview") == {
        **{"command": "push", "preview": "preview", "published": False},
    }
    assert (home / "preview" / "README.md").exists()
    train = ("--model_name_or_path", "model", "--dataset_name", "pool.jsonl", "--selection", "selected", "--use_cpu")
    more = ("--output_dir", "trained", "--max_steps", 1, "--report_to", "none", "--bf16", "false", "--max_length", 64)
    assert call("train", *train, *more)["steps"] == 1
    tried = {"embed", "select", "report", "diagnose", "push", "train"}
    for name in commands - tried:
        assert "Usage" in call(name, "--help", json_wanted=False)
    assert tried <= commands
