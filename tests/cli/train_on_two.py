"""Run once by test_train.py: `itl-hf train` with each of some config files in turn, on two processes."""

from __future__ import annotations

import sys

import torch
import trl  # noqa: F401  # imported before the fork, once for all

from itl_hf.cli.train import run
from itl_hf.cli.train_arguments import parse
from tests.worlds import world


def main(*paths: str) -> None:
    for path in paths:

        def work(_rank, path=path):
            run(*parse(["--config", path]))

        assert world(2, work) == [0, 0], path


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
