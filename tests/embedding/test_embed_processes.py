"""Embedding on several processes: the store is the same as on one, and the failure of one stops all."""

import json

import pytest

from itl_hf.embedding import FeatureStore
from tests.worlds import script


def scenario(name, folder):
    return json.loads(script("tests.embedding.forked", name, folder).stdout)


@pytest.fixture(scope="module")
def sharing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing")
    return folder, scenario("sharing", folder)


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    return scenario("trouble", tmp_path_factory.mktemp("trouble"))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["store", "memory", "stream"])
def test_every_process_has_the_same_features(sharing, kind, size):
    workers = sharing[1][f"{kind}-{size}"]["workers"]
    assert [worker["world"] for worker in workers] == [size] * size
    assert {worker["features"] for worker in workers} == {sharing[1]["memory-1"]["workers"][0]["features"]}
    # 83 distinct texts; of a stream, equal rows are found within a shard only.
    assert sum(worker["rows"] for worker in workers) == (101 if kind == "stream" else 83)
    assert sum(worker["checked"] for worker in workers) == 101
    assert min(worker["rows"] for worker in workers) >= 101 // size // 2


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", ["store", "stream"])
def test_the_store_is_the_same_for_any_number_of_processes(sharing, kind, size):
    alone, shared = (sharing[0] / f"{kind}-{number}" for number in (1, size))
    names = sorted(path.name for path in alone.iterdir())
    assert sorted(path.name for path in shared.iterdir()) == names
    for name in names:
        assert (alone / name).read_bytes() == (shared / name).read_bytes(), name
    statistics = [FeatureStore.open(path).statistics() for path in (alone, shared)]
    assert statistics[0].mean.tobytes() == statistics[1].mean.tobytes()


def errors(result):
    assert result["seconds"] < 30  # no process waits for one that has failed
    return [worker.get("error") for worker in result["workers"]]


@pytest.mark.parametrize(
    ("what", "first", "second"),
    [
        ("fails", "process 1 failed: ValueError: the model broke", "ValueError: the model broke"),
        ("interrupted", "process 1 failed: KeyboardInterrupt", "KeyboardInterrupt"),
        ("bad_row", "process 1 failed: ValueError: 50 of 100 rows cannot be read", "50 of 100 rows cannot be read"),
        ("other_model", "process 1 was called with other arguments", "layer is 1 there and 0 here"),
        ("other_rows", "process 1 was called with other arguments", "rows is 101 there and 100 here"),
        ("not_shared", "must be on a file system that all", "must be on a file system that all"),
    ],
)
def test_one_failure_stops_all_processes(trouble, what, first, second):
    messages = errors(trouble[what])
    assert first in messages[0]
    assert second in messages[1]


def test_a_killed_process_is_noticed_by_the_other(trouble):
    for name, place in (("dies", 0), ("first_dies", 1)):
        assert "another process ended without an error message" in errors(trouble[name])[place]
        assert trouble[name]["workers"][1 - place]["code"] == -9


def test_after_a_failure_only_the_rest_is_embedded(trouble):
    workers = trouble["recovered"]["workers"]
    assert 0 < sum(worker["rows"] for worker in workers) <= 100 - 16
    assert len({worker["features"] for worker in workers}) == 1


@pytest.mark.parametrize("name", ["kills", "kills-streamed"])
def test_sigkill_at_random_moments(tmp_path, name):
    """Twenty kills, one and two processes in turn: at most the shard in flight of each is lost, and nothing else."""
    result = scenario(name, tmp_path)
    assert result["kills"] >= 20
    assert result["sizes"] == [1, 2]
    assert result["most_lost_beyond_one_each"] <= 0
    assert result["embedded_at_last"] == result["missing_at_last"]
    assert result["codes"] == [0, 0, 0]
    assert result["same_names"]
    assert result["same_bytes"]
    assert result["rows"] == 800
    assert len({shards for _, shards in result["rounds"]}) >= 5  # processes were killed while they embedded
