"""The command line that benchmarks share: runs the requested parts and adds their results to the results file."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Part = Callable[[], dict[str, Any]]


def run(parts: Mapping[str, Part], results: Path, description: str | None) -> None:
    """Parses `--only` and `--threads`, runs the parts, prints the results and writes them after every part.

    Args:
        parts (`Mapping[str, Callable]`):
            Functions to run, by name. Each returns its results as JSON types.
        results (`Path`):
            JSON file with the results of all parts.
        description (`str`):
            Text for `--help`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=parts, default=list(parts))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cpu = platform.processor() or platform.machine()
    machine = {"threads": options.threads, "cpu": cpu, "torch": torch.__version__}
    for name in options.only:
        figures = {**parts[name](), "machine": machine}
        print(name, json.dumps(figures, indent=2), flush=True)
        # Read again for each part, since another run may have added to it.
        earlier_results = json.loads(results.read_text()) if results.exists() else {}
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps({**earlier_results, name: figures}, indent=2) + "\n")
