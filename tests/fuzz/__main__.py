"""`python -m tests.fuzz [--seconds N] [--folder F] [reader ...]`: fuzzes the readers one after the other.

The exit status is 1 if there were findings. Inputs of findings that were mended go into `tests/fuzz/corpus`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.readers import MODULES


def main() -> int:
    """Fuzzes and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--folder", type=Path, default=Path("outputs/fuzz"), help="for the corpus and the findings")
    parser.add_argument("readers", nargs="*", default=list(MODULES), metavar="reader", help=", ".join(MODULES))
    arguments = parser.parse_args()
    status = 0
    for name in arguments.readers:
        findings = arguments.folder / "findings" / name
        command = [sys.executable, "-m", "tests.fuzz.harness", name, str(arguments.folder)]
        ended = subprocess.run([*command, f"-max_total_time={arguments.seconds}"], check=False)
        inputs = sorted(findings.glob("*")) if findings.exists() else []
        print(f"{name}: {len(inputs)} findings{f' in {findings}' if inputs else ''}, exit status {ended.returncode}")
        status = status or int(bool(inputs) or ended.returncode != 0)
    return status


if __name__ == "__main__":
    sys.exit(main())
