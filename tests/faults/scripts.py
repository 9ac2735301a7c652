"""Runs a script of this folder and returns what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.worlds import ROOT

#: Nothing here needs a network, a GPU or a second thread.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}


def result_of(name: str, folder: Path, *arguments: str, within: list[str] | None = None, limit: float = 1800.0) -> Any:
    """Runs `python -m tests.faults.NAME FOLDER ARGUMENTS` and returns its answer.

    Args:
        name: of the script.
        folder: an empty folder.
        arguments: further words.
        within: a program that runs it, with its words.
        limit: seconds after which the test fails.
    """
    process = subprocess.run(
        [*(within or []), sys.executable, "-m", f"tests.faults.{name}", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1])
