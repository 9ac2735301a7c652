"""Writes docs/models.md by trying tiny models of every family: `python docs/models.py` (half an hour on one core).

Results are kept in outputs/models/results.jsonl; an interrupted run continues. `python docs/models.py NAME ...` tries
these configurations anew, prints what was found and writes no page.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import transformers

from recipes.model_page.page import page, print_result
from recipes.model_page.run import configurations, run_all, try_one

PAGE = Path(__file__).with_suffix(".md")


def main(names: list[str]) -> None:
    """Tries all configurations and writes the page, or tries some."""
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in names:
        print_result(name, try_one(name))
    if not names:
        PAGE.write_text(page(run_all(configurations())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
