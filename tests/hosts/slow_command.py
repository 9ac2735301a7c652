"""`itl-hf` with small shards that take a while: `python -m tests.hosts.slow_command embed ...`, for kills in time."""

from __future__ import annotations

import os
import time

from itl_hf.cli.main import main
from itl_hf.embedding import embed
from itl_hf.embedding.embedders.hidden_states import HiddenStates


def slow_down(seconds: float) -> None:
    embed_prepared = HiddenStates.embed_prepared

    def slowly(self, *arguments, **options):
        time.sleep(seconds)
        return embed_prepared(self, *arguments, **options)

    HiddenStates.embed_prepared = slowly


if __name__ == "__main__":
    embed.__kwdefaults__["shard_rows"] = 4
    slow_down(float(os.environ.get("SECONDS_A_SHARD", "0")))
    main()
