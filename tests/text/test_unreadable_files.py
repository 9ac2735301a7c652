"""Files that are blank, cut off or in another encoding: the file is named, and what to do."""

from __future__ import annotations

import bz2
import gzip

import datasets
import pytest

from itl_hf.cli.load_rows import load_rows
from itl_hf.text.json_files import read_json_files

LATIN_LINES = [f"caf\xe9 {number}" for number in range(300)]
LATIN_JSON = "\n".join(["{}", *(f'{{"prompt": "{line}"}}' for line in LATIN_LINES)]).encode("latin-1")
PLAIN_JSON = "\n".join(f'{{"prompt": "{number**9}"}}' for number in range(300)).encode()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "txt", "parquet"])
def test_a_blank_file(kind, tmp_path):
    (tmp_path / f"rows.{kind}").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"rows\.{kind} is empty .*it has no rows.* name another file"):
        load_rows(str(tmp_path / f"rows.{kind}"))


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", b"\n \n"), ("a.csv", b"\n \n"), ("a.csv", b"prompt\n")])
def test_a_file_without_rows(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"a\..*has no rows.* name another file"):
        load_rows(str(tmp_path / name))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "txt"])
def test_another_encoding(kind, tmp_path):
    lines = LATIN_JSON if kind == "jsonl" else "\n".join(["prompt", *LATIN_LINES]).encode("latin-1")
    (tmp_path / f"rows.{kind}").write_bytes(lines)
    with pytest.raises(
        ValueError, match=rf"rows\.{kind} .*line 2 is not UTF-8, .*iconv -f LATIN1 -t UTF-8 rows\.{kind}"
    ):
        load_rows(str(tmp_path / f"rows.{kind}"))
    (tmp_path / f"rows.{kind}").write_bytes(lines.decode("latin-1").encode("utf-16"))
    with pytest.raises(ValueError, match=rf"rows\.{kind} .*but UTF-16.*iconv -f UTF-16"):
        load_rows(str(tmp_path / f"rows.{kind}"))


def test_another_encoding_in_a_compressed_file(tmp_path):
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(LATIN_JSON))
    with pytest.raises(ValueError, match=r"rows\.jsonl\.gz .*not UTF-8\. Decompress it"):
        read_json_files([str(tmp_path / "rows.jsonl.gz")])


@pytest.mark.parametrize("end", [-3, 200, 20])
def test_parquet_that_is_cut_off(end, tmp_path):
    datasets.Dataset.from_dict({"prompt": LATIN_LINES}).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:end])
    with pytest.raises(ValueError, match=r"rows\.parquet is cut off.* Copy or download it again"):
        load_rows(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(
    ("content", "remedy"),
    [(b"<html>404</html>", "is not a Parquet file"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")],
)
def test_something_else_in_place_of_parquet(content, remedy, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=rf"rows\.parquet .*{remedy}"):
        load_rows(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_compressed_file_that_is_cut_off(kind, suffix, compress, tmp_path):
    path = tmp_path / f"rows.{kind}{suffix}"
    path.write_bytes(compress(PLAIN_JSON)[:-30])
    with pytest.raises(ValueError, match=rf"rows\.{kind}.* it is cut off or damaged .*download it again"):
        load_rows(str(path))
    assert path.exists()
