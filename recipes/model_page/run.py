"""Tries all configurations, one after the other, and keeps the results in a file of JSON lines."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import transformers

from recipes.model_page.checks import run_checks
from recipes.model_page.families import families
from recipes.model_page.isolation import isolated
from recipes.model_page.overrides import VARIANTS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "outputs" / "models" / "results.jsonl"
#: Seconds that a configuration may take.
LIMIT = 180.0
Result = dict[str, Any]


def configurations() -> dict[str, str]:
    """Returns the names of all configurations, with their groups: every family, and variants of some."""
    groups = families()
    return groups | {name: groups[family] for name, (family, _) in VARIANTS.items() if family in groups}


def run_all(names: Iterable[str], path: Path = RESULTS, seconds: float = LIMIT) -> dict[str, Result]:
    """Tries the configurations that `path` has no result of, and returns the results of all.

    A result counts while the version of transformers is the same; after changes of the code, remove the file.

    Args:
        names (`Iterable[str]`):
            Names of configurations.
        path (`Path`, *optional*):
            File of JSON lines, to which each result is added as soon as it is there.
        seconds (`float`, *optional*):
            Limit of time for a configuration.
    """
    names, version = list(names), transformers.__version__
    results = {result["name"]: result for result in read_results(path) if result["version"] == version}
    missing = [name for name in names if name not in results]
    print(f"{len(names)} configurations, {len(missing)} to try: about {max(1, len(missing) * 5 // 60)} min", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for number, name in enumerate(missing, 1):
        results[name] = {"name": name, "version": version, **try_one(name, seconds)}
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps(results[name]))  # begins a line, since the last one may be incomplete
        print(f"{number:4}/{len(missing)} {name}: {summary(results[name])}", flush=True)
    print(f"{len(missing)} configurations in {time.monotonic() - start:.0f} s", flush=True)
    return {name: results[name] for name in names}


def try_one(name: str, seconds: float = LIMIT) -> Result:
    """Tries one configuration in a process of its own; `seconds` of the result says how long it took."""
    start = time.monotonic()
    result = isolated(lambda: run_checks(name), seconds)
    return {**result, "seconds": round(time.monotonic() - start, 1)}


def read_results(path: Path) -> list[Result]:
    """Returns the results in a file; an incomplete line is left out."""
    if not path.exists():
        return []
    results = []
    for line in filter(None, path.read_text(encoding="utf-8").splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            results.append(json.loads(line))
    return results


def summary(result: Result) -> str:
    """Returns the verdicts of a result in one line."""
    if "error" in result:
        return f"{result['error']} ({result['seconds']} s)"
    cells = ", ".join(f"{check} {one['verdict']}" for check, one in result.items() if isinstance(one, dict))
    return f"{cells} ({result['seconds']} s)"
