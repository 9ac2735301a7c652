"""The output folder of `itl-hf train`: what is refused before a model is loaded, and one run at a time.

While a run lasts, a hidden file in the folder says that its content is that of a training. It stays after a kill or an
error, so that the next run knows the folder as one that it may continue in.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from itl_hf.cli.output import say_note
from itl_hf.disk.checks import check_writable_folder, expand, foreign_names
from itl_hf.disk.file_modes import make_folder
from itl_hf.disk.lock import lock_folder
from itl_hf.disk.temporary import remove, temporary_path, temporary_paths

if TYPE_CHECKING:
    from transformers import TrainingArguments

#: Beginning of the name of the hidden file.
_MARK = "training"
#: What only a training leaves.
_TRAINING_FILES = re.compile(r"checkpoint-\d+|training_args\.bin|selection")
#: Folders of logs, which other programs make before a training begins.
_LOGS = {"runs", "logs", "wandb"}
_BUSY = (
    "another run is training into this folder. Wait for it, end it, or choose another --output_dir; to train on "
    "several processes start them with torchrun or accelerate launch"
)


def check_training_folder(folder: Path, overwrite: bool, model: str | None) -> None:
    """Checks that a model can be trained into a folder, before any work is done for it.

    Args:
        folder (`Path`):
            The folder.
        overwrite (`bool`):
            Whether other files may be there, of which those with names of the training's files are replaced.
        model (`str`, *optional*):
            Name or folder of the model that is trained.

    Raises:
        `FileExistsError`: If the folder holds other files, or the model that is trained, and `overwrite` is false.
        `NotADirectoryError`: If a part of the path is a file.
        `PermissionError`: If nothing can be written there.
    """
    check_writable_folder(folder, "--output_dir")
    if overwrite:
        return
    if model is not None and folder.is_dir() and expand(model).is_dir() and folder.samefile(expand(model)):
        raise FileExistsError(
            f"--output_dir {folder} is the folder of --model_name_or_path, whose weights would be replaced: choose "
            "another folder, or replace them (--overwrite)"
        )
    names = [name for name in foreign_names(folder) if name not in _LOGS]
    if names and not any(map(_TRAINING_FILES.fullmatch, names)) and not _marks(folder):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise FileExistsError(
            f"--output_dir {folder} holds other files than those of a training ({', '.join(names[:3])}{more}): choose "
            "another folder, or train beside them (--overwrite), which replaces files of the same names"
        )


@contextlib.contextmanager
def training_folder(folder: Path) -> Iterator[None]:
    """Context in which no other run trains into the folder; the first process of a run enters it.

    Args:
        folder (`Path`):
            The folder; it is made if it does not exist, and deleted after an error if nothing was written into it.

    Raises:
        `BlockingIOError`: If another run is training into it.
    """
    is_new = not folder.exists()
    make_folder(folder)
    with lock_folder(folder, _BUSY):
        mark = temporary_path(folder, _MARK)
        mark.touch()
        try:
            yield
        except BaseException:
            if not foreign_names(folder):
                remove(mark)
                if is_new:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            raise
        for path in _marks(folder):  # also those of earlier runs: none of them lasts
            remove(path)


def checkpoint_to_resume(training: TrainingArguments) -> str | None:
    """Returns the checkpoint that was asked for; for `true` the newest whole one, or none if there is none yet."""
    from itl_hf.training.checkpoints import last_whole_checkpoint

    request: str | bool | None = training.resume_from_checkpoint  # TRL types it without `bool`
    if not isinstance(request, bool):
        return request
    if not request:
        return None
    checkpoint = last_whole_checkpoint(Path(str(training.output_dir)), training.world_size)
    if checkpoint is None and training.process_index == 0:
        say_note(f"{training.output_dir} holds no checkpoint to resume from: training begins anew")
    return None if checkpoint is None else str(checkpoint)


def _marks(folder: Path) -> list[Path]:
    return temporary_paths(folder, _MARK) if folder.is_dir() else []
