"""Memory does not grow with the number of rows: features go to the disk and are read from there in parts."""

import subprocess
import sys
from pathlib import Path

import datasets

ROOT = Path(__file__).parents[2]


def peak(rows, folder):
    """MiB, of embedding `rows` rows of 4 KiB each and reading them again."""
    source, store = folder / f"rows-{rows}", folder / f"store-{rows}"
    datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(rows)]}).save_to_disk(str(source))
    command = [sys.executable, "-m", "tests.embedding.peak", str(source), str(store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_peak_memory_of_40_000_rows_is_that_of_10_000(tmp_path):
    few, many = peak(10_000, tmp_path), peak(40_000, tmp_path)
    # The features of the rows in between are 117 MiB.
    assert many <= 1.1 * few + 8, (few, many)
