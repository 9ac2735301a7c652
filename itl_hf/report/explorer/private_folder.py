"""A folder that only its owner can read, and that is deleted however this process ends, also when it is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

#: Waits for the end of the process that holds the other end of its standard input, then deletes the folder.
_DELETE_AT_END = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


class PrivateFolder:
    """A new folder in the folder for temporary files, with mode 0700.

    A small process of its own waits for the end of this one, because a process that is killed cannot delete anything.

    Example:
        >>> folder = PrivateFolder()
        >>> folder.path.stat().st_mode & 0o777 == 0o700
        True
        >>> folder.delete()
        >>> folder.path.exists()
        False
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="itl-hf-explorer-"))
        watcher = subprocess.Popen(  # nosec B603
            [sys.executable, "-S", "-E", "-c", _DELETE_AT_END, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it before the folder is deleted
        )
        self._finalizer = weakref.finalize(self, _delete, self.path, watcher)

    def delete(self) -> None:
        """Deletes the folder now; calling it again does nothing."""
        self._finalizer()


def _delete(path: Path, watcher: subprocess.Popen[bytes]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if watcher.stdin is not None:
        watcher.stdin.close()
    watcher.wait()
