"""Fuzzes one reader, guided by the coverage of its code: `python -m tests.fuzz.harness READER FOLDER [options]`.

The options are those of libFuzzer. An error that no other input raised before is printed and its input written to
`FOLDER/findings`; the run goes on. A hang or too much memory ends it, and libFuzzer writes the input there.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["itl_hf", "yaml"]):
    from tests.fuzz.mutation import mutate_json
    from tests.fuzz.reader import UndocumentedError
    from tests.fuzz.readers import reader, run

    SUBJECT = reader(sys.argv[1])

#: Seconds and MiB after which an input counts as a hang or as too large.
SECONDS, MEBIBYTES = 20, 3000


def main(name: str, folder: Path, options: list[str]) -> None:
    """Fuzzes the reader of this name until the options of libFuzzer end it."""
    corpus, findings = folder / "corpus" / name, folder / "findings" / name
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    for seed in SUBJECT.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = folder / f"{name}.dict"
    texts = [word.encode("ascii", "backslashreplace") for word in SUBJECT.words]
    words.write_text("".join(f'"{text.decode().replace(chr(92), chr(92) * 2)}"\n' for text in texts))
    places: set[str] = set()

    def try_input(content: bytes) -> None:
        try:
            run(name, content)
        except Exception as error:
            place = _place(error.__cause__ if isinstance(error, UndocumentedError) and error.__cause__ else error)
            if place not in places:
                places.add(place)
                (findings / hashlib.sha256(place.encode()).hexdigest()[:12]).write_bytes(content)
                os.write(2, f"FINDING in {name}: {place}: {str(error)[:300]!r}\n".encode("utf-8", "replace"))

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        text = mutate_json(content, seed) if seed % 2 else None
        return text if text is not None and len(text) <= most else atheris.Mutate(content, most)

    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}", f"-artifact_prefix={findings}/", f"-dict={words}"]
    atheris.Setup([name, *limits, "-max_len=20000", *options, str(corpus)], try_input, custom_mutator=mutate)
    atheris.Fuzz()


def _place(error: BaseException) -> str:
    """Returns the class of an error and the line of this package that it came from."""
    lines = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "itl_hf" in frame.filename and "tests" not in frame.filename
    ]
    return f"{type(error).__name__} {lines[-1] if lines else '(message)'}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
