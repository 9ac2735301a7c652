"""What holds for all tests: one thread each, a cache of their own, and a user's script that must not be collected.

Collecting the script would run it.
"""

import atexit
import os
import shutil
import tempfile

import pytest

# Before torch and NumPy are imported. Tests compute little, and two workers of pytest-xdist on two cores with two
# threads each would only wait for one another. What tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Selections without `store=` keep features; tests must not read or write those of the user.
_CACHE = tempfile.mkdtemp(prefix="itl-hf-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["ITL_HF_CACHE"] = os.path.join(_CACHE, "session")

collect_ignore = ["training/existing_script.py"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Gives each test an empty cache, so that none finds the features of another."""
    folder = tempfile.mkdtemp(dir=_CACHE)
    monkeypatch.setenv("ITL_HF_CACHE", os.path.join(folder, "cache"))
