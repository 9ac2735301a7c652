"""The store and locks where Python has no `fcntl`, as on Windows: in processes of their own."""

from __future__ import annotations

import subprocess
import sys

from tests.worlds import ROOT, script

LOCK = """
import os, signal, sys, warnings
sys.modules["fcntl"] = None
warnings.simplefilter("ignore")
from pathlib import Path
from itl_hf.disk.checks import foreign_names
from itl_hf.disk.lock import lock_folder
folder = Path(sys.argv[1])
with lock_folder(folder, "somebody writes") as has_waited:
    print([path.name for path in folder.iterdir()], foreign_names(folder), has_waited)
    sys.stdout.flush()
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def lock(folder, *words):
    """Runs a process that locks the folder, and returns its exit code and what it prints."""
    command = [sys.executable, "-c", LOCK, str(folder), *words]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    return process.returncode, process.stdout, process.stderr


def test_the_store_works_without_fcntl():
    tests = ("disk/test_whole_files.py", "embedding/store/test_feature_store.py", "embedding/store/test_cache.py")
    assert " passed" in script("tests.without_fcntl", *(f"tests/{test}" for test in tests)).stdout


def test_a_lock_is_a_hidden_file_that_goes_also_after_a_kill(tmp_path):
    code, output, _ = lock(tmp_path)
    assert (code, output) == (0, "['.itl-hf.lock'] [] False\n")
    assert list(tmp_path.iterdir()) == []
    assert lock(tmp_path, "die")[0] == -9
    assert [path.name for path in tmp_path.iterdir()] == [".itl-hf.lock"]
    code, output, errors = lock(tmp_path)
    assert code == 0, errors
    assert "[] " in output  # the file of the dead process does not keep others out
    assert list(tmp_path.iterdir()) == []
