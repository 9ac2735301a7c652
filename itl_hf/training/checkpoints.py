"""Finds the checkpoint to resume from: the newest one that was written to its end.

The Trainer writes the files of a checkpoint one after the other, `trainer_state.json` last. A process that is killed
meanwhile leaves a folder that `resume_from_checkpoint=True` of the Trainer takes for the newest checkpoint, and then
cannot read, or reads without the states of the random generators.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"


def last_whole_checkpoint(output_dir: Path, num_processes: int = 1) -> Path | None:
    """Returns the newest checkpoint that was written to its end; `None` if there is none.

    Args:
        output_dir (`Path`):
            The folder of the training.
        num_processes (`int`, *optional*, defaults to 1):
            Processes that train; each writes the state of its random generators.

    Example:
        >>> last_whole_checkpoint(Path("nowhere")) is None
        True
    """
    matches = [(_NAME.fullmatch(path.name), path) for path in output_dir.glob("checkpoint-*")]
    checkpoints = sorted((int(match[1]), path) for match, path in matches if match)
    return next((path for _, path in reversed(checkpoints) if is_whole(path, num_processes)), None)


def is_whole(checkpoint: Path, num_processes: int = 1) -> bool:
    """Returns whether a checkpoint was written to its end.

    Args:
        checkpoint (`Path`):
            Its folder.
        num_processes (`int`, *optional*, defaults to 1):
            As in `last_whole_checkpoint`.
    """
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    ranks = [""] if num_processes == 1 else [f"_{rank}" for rank in range(num_processes)]
    states = [checkpoint / f"rng_state{rank}.pth" for rank in ranks]
    # With `save_only_model` there are none. The directory of a file in zip format is at its end.
    return not states[0].exists() or all(zipfile.is_zipfile(state) for state in states)
