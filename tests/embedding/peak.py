"""Embeds a dataset, reads all features again, and prints the peak memory in MiB. `test_free_memory.py` runs it."""

from __future__ import annotations

import resource
import sys

import datasets
import torch

from itl_hf import Embedder
from itl_hf.embedding import FeatureStore, embed


class Wide(Embedder):
    """Returns features of 4 KiB a row, so that features take most of the memory."""

    dimension = 1024

    def fingerprint(self):
        return {"embedder": "wide"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        return torch.arange(first_row, first_row + len(rows)).float()[:, None].expand(-1, self.dimension).contiguous()


def main(source: str, store: str) -> None:
    dataset = datasets.load_from_disk(source)
    embed(dataset, Wide(), store)
    embed(dataset, Wide(), store)  # compares all checksums
    features = FeatureStore.open(store).features()
    sums = sum(float(features[first : first + 8192][:, 0].sum()) for first in range(0, len(features), 8192))
    assert sums == len(features) * (len(features) - 1) / 2
    FeatureStore.open(store).statistics()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
