"""Runs tests where Python has no `fcntl`, as on Windows: `python -m tests.without_fcntl TESTS...`.

Folders are then locked by files. The library that locks has no native lock here and uses its fallback, which is a file
that holds the number of the process; on Windows it uses the locks of the system.
"""

from __future__ import annotations

import sys
import warnings

sys.modules["fcntl"] = None  # type: ignore[assignment]  # an import of it fails

if __name__ == "__main__":
    import pytest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that there is no native lock
        import filelock

    assert not filelock.has_fcntl
    options = "addopts=--strict-markers -m 'not slow and not faults'"
    sys.exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", f"--override-ini={options}", *sys.argv[1:]])))
