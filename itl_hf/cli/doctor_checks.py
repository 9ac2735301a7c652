"""What `itl-hf doctor` looks at. Each check says what is there and, if something is wrong, what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

Verdict = Literal["ok", "note", "wrong"]
#: Less free space than this is too little: a model of 1.5 billion parameters has 3 GiB.
FEW_BYTES = 5 * 2**30
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name (`str`):
            What it is.
        verdict (`str`):
            `"ok"`, `"note"` (works, and is worth to know) or `"wrong"`.
        text (`str`):
            What is there.
        remedy (`str`, *optional*):
            What to do.
    """

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""

    def line(self) -> str:
        """The check as a line of text."""
        remedy = f"\n{'':8}-> {self.remedy}" if self.remedy else ""
        return f"{self.verdict:<6}  {self.name}: {self.text}{remedy}"


def all_checks() -> list[Check]:
    """Runs all checks. One that fails itself is reported as wrong, and the others go on."""
    checks: list[Check] = []
    for run in (packages, devices, backends, folders, connection, exactness):
        checks += _safely(run)
    return checks


def _safely(run: Callable[[], list[Check]]) -> list[Check]:
    try:
        return run()
    except Exception as error:
        text = f"the check itself failed with {type(error).__name__}: {error}"
        return [Check(run.__name__, "wrong", text, "run again with --verbose, and report it")]


def packages() -> list[Check]:
    """Versions of Python and of all packages that itl_hf needs, against their bounds."""
    from packaging.requirements import Requirement

    checks = [Check("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")]
    try:
        lines = metadata.requires("itl-hf") or []
        checks.append(Check("itl-hf", "ok", metadata.version("itl-hf")))
    except metadata.PackageNotFoundError:
        return [*checks, Check("itl-hf", "note", "runs from a folder and is not installed", "pip install -e .")]
    missing_extras: dict[str, list[str]] = {}
    for line in lines:
        requirement = Requirement(line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if requirement.name == "itl-hf" or (extra and extra[1] in ("dev", "docs", "demo", "test")):
            continue
        version = _version(requirement.name)
        bounds = f"{requirement.name}{requirement.specifier}"
        if version is None and extra is not None:
            missing_extras.setdefault(extra[1], []).append(requirement.name)
        elif version is None:
            checks.append(Check(requirement.name, "wrong", "is not installed", f"pip install '{bounds}'"))
        elif not requirement.specifier.contains(version, prereleases=True):
            text = f"{version}, but {requirement.specifier} is needed"
            checks.append(Check(requirement.name, "wrong", text, f"pip install '{bounds}'"))
        elif extra is None:
            checks.append(Check(requirement.name, "ok", version))
    for extra_name, names in missing_extras.items():
        text = f"not installed ({', '.join(names)})"
        checks.append(Check(f"extra {extra_name}", "note", text, f"if you need it: pip install 'itl-hf[{extra_name}]'"))
    return checks


def devices() -> list[Check]:
    """Processors, memory and GPUs that torch can use."""
    import torch

    checks = [Check("processors", "ok", f"{os.cpu_count()}, torch computes with {torch.get_num_threads()} threads")]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:  # Linux
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        checks.append(Check("memory", "ok", f"{memory / _GIB:.1f} GiB free, that of caches not counted"))
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        text = f"{properties.name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
        checks.append(Check(f"GPU cuda:{number}", "ok", text))
    if torch.backends.mps.is_available():
        checks.append(Check("GPU mps", "ok", "usable with --device mps"))
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        text = f"there is a driver of NVIDIA, but torch {torch.__version__} cannot use a GPU"
        checks.append(Check("GPU", "wrong", text, "install torch for CUDA: see pytorch.org/get-started"))
    elif not torch.cuda.is_available():
        checks.append(Check("GPU", "note", "none: embedding takes 10 to 100 times as long as with one"))
    return checks


def backends() -> list[Check]:
    """Optional libraries and settings that change speed or rounding."""
    import torch

    checks = []
    for package, use in (
        ("bitsandbytes", "--quantization"),
        ("flash_attn", "faster attention"),
        ("faiss", "itl-hf index"),
    ):
        there = importlib.util.find_spec(package) is not None
        checks.append(Check(package, "ok" if there else "note", f"{'there' if there else 'not installed'}, for {use}"))
    compiler = next((name for name in ("cc", "gcc", "clang", "cl") if shutil.which(name)), None)
    verdict: Verdict = "note" if compiler is None else "ok"
    checks.append(Check("C compiler", verdict, f"{compiler or 'none'}, for --compile"))
    if torch.backends.cuda.matmul.allow_tf32:
        text = "torch rounds products on the GPU to TF32 (10 bits)"
        checks.append(Check("TF32", "note", text, "torch.backends.cuda.matmul.allow_tf32 = False for exact features"))
    return checks


def folders() -> list[Check]:
    """Folders in which models, datasets and temporary files are kept: can they be written, and what is free?"""
    import datasets
    from huggingface_hub import constants

    places = {
        "models (HF_HUB_CACHE)": (constants.HF_HUB_CACHE, "HF_HOME"),
        "datasets (HF_DATASETS_CACHE)": (datasets.config.HF_DATASETS_CACHE, "HF_HOME"),
        "temporary files": (tempfile.gettempdir(), "TMPDIR"),
        "this folder": (os.getcwd(), ""),
    }
    return [_folder(name, Path(place), variable) for name, (place, variable) in places.items()]


def _folder(name: str, place: Path, variable: str) -> Check:
    existing = next(one for one in (place, *place.absolute().parents) if one.exists())
    other = f"set {variable} to another folder" if variable else "change to another folder"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(name, "wrong", f"{place} cannot be written", f"{other}, or change its permissions")
    free = shutil.disk_usage(existing).free
    text = f"{place}, {free / _GIB:.1f} GiB free"
    if free < FEW_BYTES:
        return Check(name, "wrong", text, f"free some space, or {other}")
    return Check(name, "ok", text)


def connection() -> list[Check]:
    """Whether the Hub is used and by whom. Nothing is sent."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return [Check("Hub", "note", "HF_HUB_OFFLINE is set: only what is in the cache can be loaded")]
    logged_in = "logged in" if get_token() else "not logged in: enough for public models, not to push"
    return [Check("Hub", "ok", f"{constants.ENDPOINT}, {logged_in}")]


def exactness() -> list[Check]:
    """Compares picks on this machine with brute force in float64."""
    from itl_hf.selection.exactness_check import NUM_PICKS, NUM_ROWS, check_exactness

    checks = []
    for result in check_exactness():
        text = (
            f"{NUM_PICKS} picks of {NUM_ROWS:,} rows in {result.seconds:.1f} s; "
            + ("all are the best row" if not result.num_worse else f"{result.num_worse} are not the best row")
            + f", gains are right to {result.largest_gain_error:.0e}"
        )
        remedy = "" if result.is_exact else "picks are wrong here: report it, with this output and your torch version"
        checks.append(Check(f"exactness, {result.kernel}", "ok" if result.is_exact else "wrong", text, remedy))
    return checks


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
