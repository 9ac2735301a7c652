"""Errors of `from_pretrained` as sentences that name the model or tokenizer and say what to do."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError  # nosec B403: the name of an error; nothing is unpickled here

from safetensors import SafetensorError

_DAMAGES = (SafetensorError, EOFError, UnpicklingError, zipfile.BadZipFile, KeyError)
#: In the message about weights of other shapes than the config says, whose sizes transformers only logs.
_OTHER_SIZES = "ignore_mismatched_sizes"
#: The branch that is meant where no revision is given.
_DEFAULT_REVISION = "main"


def check_revision(name: str, revision: str | None) -> None:
    """Raises `ValueError` if a revision is asked for of a model in a folder, which has none."""
    if revision not in (None, _DEFAULT_REVISION) and Path(name).is_dir():
        raise ValueError(f"{name} is a folder, which has no revisions: leave out {revision!r}")


@contextlib.contextmanager
def model_errors(name: str) -> Iterator[None]:
    """Context in which a model is loaded.

    Args:
        name (`str`):
            Its name on the Hub, or its folder.

    Raises:
        `ValueError`: If there is no such model, or it cannot be loaded.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"no model at {name!r}, neither as a folder with a config.json nor on the Hub: {error}"
        ) from error
    except _DAMAGES as error:
        raise ValueError(
            f"the weights or settings of {name!r} are damaged ({type(error).__name__}: {error}): copy or download the "
            "model again"
        ) from error
    except RuntimeError as error:
        if _OTHER_SIZES not in str(error):
            raise
        raise ValueError(
            f"the weights of {name!r} have other sizes than its config.json says: copy or download the model again"
        ) from error
    except ValueError as error:
        raise (error if name in str(error) else ValueError(f"the model {name!r} cannot be loaded: {error}")) from error


@contextlib.contextmanager
def tokenizer_errors(name: str) -> Iterator[None]:
    """Context in which the tokenizer of a model is loaded.

    Raises:
        `ValueError`: If the model has none, or it cannot be loaded.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"no tokenizer can be loaded from {name!r}: save one there (tokenizer.save_pretrained), or pass tokenizer= "
            f"({error})"
        ) from error
