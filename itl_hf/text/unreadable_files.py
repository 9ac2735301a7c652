"""Says what is wrong with a file of rows that cannot be read, and what to do about it."""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path

#: Errors of files that are cut or damaged; `ValueError` includes those of JSON, of texts that are not UTF-8, of Arrow.
DAMAGES = (ValueError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, RecursionError)
#: Parts of the messages by which pandas and datasets say that a file has no rows.
_NO_ROWS = ("corresponds to no data", "Please pass `features`", "No columns to parse")
_BZ2_DAMAGE = "Invalid data stream"
_PARQUET_MARK = b"PAR1"
_COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_LFS_START = b"version https://git-lfs"
_UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


def is_damage(error: BaseException | None) -> bool:
    """Returns whether an error says that a file is damaged; for bz2 that is an `OSError` like those of the disk."""
    return isinstance(error, DAMAGES) or (isinstance(error, OSError) and str(error) == _BZ2_DAMAGE)


def check_file(name: str) -> None:
    """Raises `ValueError` if a file on this machine is empty, a pointer to a file, or cut-off Parquet.

    Args:
        name (`str`):
            Path of the file.
    """
    path = Path(name)
    if not path.is_file():  # an address
        return
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{name} is empty (0 bytes): it has no rows. Write it again, or name another file")
    with path.open("rb") as file:
        start = file.read(max(map(len, (_LFS_START, _PARQUET_MARK))))
        file.seek(-min(size, len(_PARQUET_MARK)), 2)
        end = file.read()
    if start == _LFS_START:
        raise ValueError(f"{name} is only a pointer to the file (git LFS): run git lfs pull in its folder")
    if path.suffix == ".parquet" and not (start.startswith(_PARQUET_MARK) and end == _PARQUET_MARK):
        is_cut = start.startswith(_PARQUET_MARK)
        what = "is cut off: it begins as Parquet and does not end so" if is_cut else "is not a Parquet file"
        raise ValueError(f"{name} {what}. Copy or download it again" + ("" if is_cut else ", or correct its suffix"))


def unreadable(name: str, kind: str, error: BaseException) -> ValueError:
    """Returns an error that names the file and says what to do.

    Args:
        name (`str`):
            Path or address of the file.
        kind (`str`):
            What it was read as, such as `"jsonl"`.
        error (`BaseException`):
            The error while it was read.
    """
    cause = error.__cause__ if error.__cause__ is not None and is_damage(error.__cause__) else error
    start = f"{name} cannot be read as {kind}: "
    if isinstance(cause, UnicodeDecodeError):
        return ValueError(f"{start}{_encoding_message(name)}")
    if isinstance(cause, EOFError | zlib.error | lzma.LZMAError | OSError):  # OSError: of gzip and bz2
        return ValueError(f"{start}it is cut off or damaged ({cause}). Copy or download it again")
    if isinstance(cause, RecursionError):
        return ValueError(f"{start}a value is nested too deeply. Write the file again without it")
    if isinstance(cause, StopIteration) or any(words in str(cause) for words in _NO_ROWS):
        return ValueError(f"{start}it has no rows. Write it again, or name another file")
    # Errors of our own say the line; those of `datasets` have the reason as their cause.
    return ValueError(f"{start}{error if isinstance(error, ValueError) else error.__cause__ or error}")


def _encoding_message(name: str) -> str:
    encoding, place, path = "LATIN1", "", Path(name)
    if path.suffix in _COMPRESSIONS:
        return "its text is not UTF-8. Decompress it, convert it with iconv -t UTF-8, and name the new file"
    if path.is_file():
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(_UTF16_STARTS):
                    encoding = "UTF-16"
                if not _is_utf8(line):
                    place = f"line {number} "
                    break
    guess = "but UTF-16" if encoding == "UTF-16" else "perhaps ISO-8859-1 (latin-1) or Windows-1252"
    return f"{place}is not UTF-8, {guess}. Convert it: iconv -f {encoding} -t UTF-8 {path.name} > new-{path.name}"


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
