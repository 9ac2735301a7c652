"""The default cache on two processes: shared by both, one for each, and on a disk that fails for one."""

import json

from itl_hf import Selector
from tests.embedding.fakes import HashEmbedder
from tests.embedding.forked_cache import POOL, TARGETS
from tests.worlds import script


def test_two_processes_share_the_cache_or_do_without(tmp_path):
    results = json.loads(script("tests.embedding.forked_cache", tmp_path).stdout)
    expected = Selector(HashEmbedder(), store=False).select(POOL, TARGETS, 5).indices.tolist()
    for workers in results.values():
        assert all(one["indices"] == [expected, expected] for one in workers)
    embedded = {kind: [sum(one["rows"][i] for one in workers) for i in range(2)] for kind, workers in results.items()}
    assert embedded["shared"] == [44, 0]
    assert embedded["apart"] == [44, 44]
    assert embedded["full"][1] >= 44
    messages = {kind: [len(one["warnings"]) for one in workers] for kind, workers in results.items()}
    assert messages == {"shared": [0, 0], "apart": [1, 0], "full": [1, 0]}
