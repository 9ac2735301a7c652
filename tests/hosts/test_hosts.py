"""Commands on two and three hosts in network namespaces, with shared and separate disks, kills and cut links.

`make test-hosts` runs them; without root, or without network namespaces, they are skipped and say so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time

import pytest

from tests.hosts.files import write_rows
from tests.hosts.network import hosts, processes_of, wait, why_impossible
from tests.tiny_models import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.hosts
#: How a process says that another one cannot be reached: seen by the heartbeat, or first by a broken connection.
LOSSES = (
    "has not been heard of",
    "has not answered",
    "that the others meet at was lost",
    "ended without an error message",
)
START, END = 300, 120  # seconds until all have started, on a busy machine; seconds in which the others must end


@pytest.fixture(scope="module", autouse=True)
def _possible():
    reason = why_impossible()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    write_rows(folder)
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    return folder


def torchrun(members, *words, module="itl_hf", nnodes=None, options=(), environment=None):
    """Starts the same command on every host, as docs/guide/scaling.md says."""
    launch = ["-m", "torch.distributed.run", "--nnodes", nnodes or str(len(members)), "--nproc_per_node", "1"]
    launch += ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"{members[0].name}:29500", "--rdzv_id", "test"]
    command = [*launch, *options, "-m", module, *map(str, words)]
    return [host.python(*command, ITL_HF_PROCESS_TIMEOUT="20", **(environment or {})) for host in members]


def embed_words(folder, store):
    return "embed", folder / "pool.jsonl", "--model", folder / "model", "--store", store, "--quiet"


def select_words(folder, output, *more):
    words = ["select", "--pool", folder / "pool.jsonl", "--targets", folder / "targets.jsonl", "--num_examples", "5"]
    return [*words, "--model", folder / "model", "--output_dir", output, "--quiet", *more]


def shards(store):
    return sorted(store.glob("*/shard-*.arrow"))


def wait_for_shards(store, number, started):
    deadline = time.monotonic() + START
    while len(shards(store)) < number:
        assert time.monotonic() < deadline, wait(started, 1)
        assert all(process.poll() is None for process in started), wait(started, 1)
        time.sleep(0.2)


def workers(host):
    """The processes of a host that embed; not torchrun, which started them."""
    listed = processes_of(host)
    return [
        pid for pid, words in listed if "tests.hosts.slow_command" in words and "torch.distributed.run" not in words
    ]


def embed_and(event, folder, store, count):
    """Embeds on `count` hosts, lets `event(hosts)` happen in the middle, and returns how the hosts ended."""
    with hosts(count) as members:
        environment = {"SECONDS_A_SHARD": "2"}
        words = embed_words(folder, store)
        started = torchrun(members, *words, module="tests.hosts.slow_command", environment=environment)
        wait_for_shards(store, 3, started)
        dead = event(members)
        deadline = time.monotonic() + END
        living = [host for number, host in enumerate(members) if number not in dead]
        while any(workers(host) for host in living):
            assert time.monotonic() < deadline, wait(started, 1)
            time.sleep(0.5)
        # torchrun itself may wait on for the machine that it meets the others at, long after its processes have ended.
        return [one for number, one in enumerate(wait(started, 20)) if number not in dead]


def check_rest_is_embedded(folder, store):
    kept = {path: path.stat().st_mtime_ns for path in shards(store)}
    assert len(kept) >= 3
    with hosts(1) as (host,):
        command = "-m", "tests.hosts.slow_command", *map(str, embed_words(folder, store))
        ((status, _, output),) = wait([host.python(*command)], START)
    assert status == 0, output
    assert len(shards(store)) == 60
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


@pytest.mark.parametrize("count", [2, 3])
def test_hosts_pick_what_one_process_picks(shared, tmp_path, count):
    with hosts(count) as members:
        ends = wait(torchrun(members, *select_words(shared, tmp_path / "out", "--store", tmp_path / "store")), START)
        alone = wait([members[0].python("-m", "itl_hf", *map(str, select_words(shared, tmp_path / "alone")))], START)
    assert [status for status, *_ in (*ends, *alone)] == [0] * (count + 1), ends
    records = [json.loads((tmp_path / name / "selection.json").read_text())["sha256"] for name in ("out", "alone")]
    assert records[0]["data/train-00000-of-00001.parquet"] == records[1]["data/train-00000-of-00001.parquet"]


def test_a_missing_file_on_one_host_ends_all_with_its_error(shared, tmp_path):
    mount = tmp_path / "disk"
    for number in range(3):
        write_rows(tmp_path / "disks" / f"host{number}")
        shutil.copytree(shared / "model", tmp_path / "disks" / f"host{number}" / "model")
    (tmp_path / "disks" / "host1" / "pool.jsonl").unlink()
    with hosts(3, (tmp_path / "disks", mount)) as members:
        ends = wait(torchrun(members, *select_words(mount, mount / "out", "--no_store")), START)
    assert all(status not in (0, None) for status, *_ in ends), ends
    assert max(seconds for _, seconds, _ in ends) - min(seconds for _, seconds, _ in ends) < 30
    for _, _, output in ends:
        assert "pool.jsonl: no such file" in output
    assert "on host1 failed" in ends[0][2]


def test_training_with_save_on_each_node_writes_the_selection_on_each_disk(shared, tmp_path):
    mount = tmp_path / "disk"
    for number in range(2):
        write_rows(tmp_path / "disks" / f"host{number}", rows=24)
        shutil.copytree(shared / "model", tmp_path / "disks" / f"host{number}" / "model")
    options = {
        **{"dataset_name": mount / "pool.jsonl", "targets": mount / "targets.jsonl", "num_examples": 4},
        **{"model_name_or_path": mount / "model", "output_dir": mount / "out", "save_on_each_node": True},
        **{"max_steps": 1, "max_length": 64, "use_cpu": True, "bf16": False, "gradient_checkpointing": False},
        "report_to": "none",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with hosts(2, (tmp_path / "disks", mount)) as members:
        ends = wait(torchrun(members, "train", *words), START)
    assert [status for status, *_ in ends] == [0, 0], ends
    records = [tmp_path / "disks" / f"host{number}" / "out" / "selection" / "selection.json" for number in range(2)]
    first, second = (json.loads(path.read_text())["sha256"] for path in records)
    assert first["data/train-00000-of-00001.parquet"] == second["data/train-00000-of-00001.parquet"]


def test_a_store_that_is_not_shared_is_said_before_anything_is_embedded(shared, tmp_path):
    mount = tmp_path / "disk"
    for number in range(2):
        write_rows(tmp_path / "disks" / f"host{number}")
    with hosts(2, (tmp_path / "disks", mount)) as members:
        words = "embed", mount / "pool.jsonl", "--model", shared / "model", "--store", mount / "store", "--quiet"
        ends = wait(torchrun(members, *words), START)
    for status, _, output in ends:
        assert status not in (0, None)
        assert "must be on a file system that all processes share" in output, output
    assert not list((tmp_path / "disks").rglob("shard-*"))


@pytest.mark.parametrize(("count", "victim"), [(2, 1), (2, 0), (3, 2)])
def test_a_dead_host_ends_the_others(shared, tmp_path, count, victim):
    def die(members):
        members[victim].die()
        return [victim]

    for status, _, output in embed_and(die, shared, tmp_path / "store", count):
        assert status != 0, output
        assert any(text in output for text in LOSSES), output
    check_rest_is_embedded(shared, tmp_path / "store")


@pytest.mark.parametrize("count", [2, 3])
def test_a_cut_link_ends_all(shared, tmp_path, count):
    def cut(members):
        members[1].cut()
        return []

    ends = embed_and(cut, shared, tmp_path / "store", count)
    for status, _, output in ends:
        assert status != 0, output
        assert any(text in output for text in LOSSES), output
    check_rest_is_embedded(shared, tmp_path / "store")


def kill_worker(member):
    """Kills the process that embeds, not torchrun."""
    (worker,) = workers(member)
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(worker)], check=True)


def test_a_killed_worker_ends_the_others(shared, tmp_path):
    def kill(members):
        kill_worker(members[1])
        return []

    for status, _, output in embed_and(kill, shared, tmp_path / "store", 2):
        assert status not in (0, None), output
    check_rest_is_embedded(shared, tmp_path / "store")


def test_max_restarts_starts_again_and_embeds_the_rest(shared, tmp_path):
    store = tmp_path / "store"
    with hosts(2) as members:
        words, options = embed_words(shared, store), ("--max_restarts", "2")
        environment = {"SECONDS_A_SHARD": "1"}
        started = torchrun(members, *words, module="tests.hosts.slow_command", options=options, environment=environment)
        wait_for_shards(store, 3, started)
        kill_worker(members[1])
        ends = wait(started, START)
    assert [status for status, *_ in ends] == [0, 0], ends
    assert len(shards(store)) == 60


def test_accelerate_with_a_config_for_cpus_makes_no_independent_runs(shared, tmp_path):
    config = ("launch", "--config_file", "recipes/accelerate_configs/cpu.yaml", "--num_machines", "2")
    with hosts(2) as members:
        place = ("--main_process_ip", members[0].name, "--main_process_port", "29500")
        started = [
            host.python(
                "-m",
                "accelerate.commands.accelerate_cli",
                *config,
                *place,
                "--machine_rank",
                str(rank),
                "-m",
                "itl_hf",
                *map(str, select_words(shared, tmp_path / "out")),
            )
            for rank, host in enumerate(members)
        ]
        ends = wait(started, START)
    for status, _, output in ends:
        assert status not in (0, None)
        assert "torchrun --nnodes 2" in output
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / "out").iterdir())
