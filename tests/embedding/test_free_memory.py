"""Memory does not grow with the number of rows: features are written to disk and read in parts."""

import subprocess
import sys
from pathlib import Path

import datasets

ROOT = Path(__file__).parents[2]


def peak(rows, folder):
    """Returns the peak memory in MiB of embedding `rows` rows with features of 4 KiB and reading them again."""
    source, store = folder / f"rows-{rows}", folder / f"store-{rows}"
    datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(rows)]}).save_to_disk(str(source))
    command = [sys.executable, "-m", "tests.embedding.peak", str(source), str(store)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    return float(process.stdout)


def test_peak_memory_is_the_same_for_10_000_and_40_000_rows(tmp_path):
    few, many = peak(10_000, tmp_path), peak(40_000, tmp_path)
    # The features of the rows in between are 117 MiB.
    assert many <= 1.1 * few + 8, (few, many)
