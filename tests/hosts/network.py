"""Hosts in network namespaces: each has an address, a name, a link that can be cut, and if wanted a disk of its own.

A host is a network namespace with one end of a virtual cable in it; the other ends hang on a bridge, in a namespace of
its own. Commands on a host run in namespaces of their own for mounts and for the host's name, too.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Host:
    """One of the hosts: its commands see the names of all hosts, and the first of `disks` in place of the second."""

    def __init__(self, network: str, number: int, names: Path, disks: tuple[Path, Path] | None) -> None:
        self.namespace = f"{network}-{number}"
        self.name, self.address = f"host{number}", f"10.77.0.{number + 1}"
        self.names, self.disks = names, disks
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a command on this host; its output, errors included, is read with `wait`."""
        binds = [(self.names, Path("/etc/hosts")), *([self.disks] if self.disks else [])]
        mounts = [shlex.join(["mount", "--bind", str(source), str(place)]) for source, place in binds]
        script = " && ".join([f"hostname {self.name}", *mounts, f"exec {shlex.join(command)}"])
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe would block when it is full
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "bash", "-c", script],
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        process.output_file = output  # type: ignore[attr-defined]
        self.processes.append(process)
        return process

    def python(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, *words, **environment)

    def cut(self) -> None:
        """Takes the link down: packets are lost and nobody is told."""
        run_ip("-n", self.namespace, "link", "set", "eth0", "down")

    def die(self) -> None:
        """Cuts the link, so that no packet says goodbye, and kills all that runs here."""
        self.cut()
        self.kill()

    def kill(self) -> None:
        """Kills every process in this host's namespace."""
        for pid, _ in processes_of(self):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def hosts(count: int, separate_disks: tuple[Path, Path] | None = None) -> Iterator[list[Host]]:
    """Context with some hosts on one network, all of whose processes are killed at its end.

    Args:
        count (`int`):
            Number of hosts.
        separate_disks (`tuple[Path, Path]`, *optional*):
            A folder that gets a folder for each host, and the folder over which each host mounts its own.
    """
    network = f"itl{uuid.uuid4().hex[:6]}"
    bridge = f"{network}-bridge"
    members: list[Host] = []
    names = tempfile.NamedTemporaryFile("w", prefix="hosts-")  # noqa: SIM115  # deleted when it is closed
    lines = ["127.0.0.1 localhost", *(f"10.77.0.{number + 1} host{number}" for number in range(count))]
    names.write("\n".join(lines) + "\n")
    names.flush()
    try:
        run_ip("netns", "add", bridge)
        run_ip("-n", bridge, "link", "add", "bridge", "type", "bridge")
        run_ip("-n", bridge, "link", "set", "bridge", "up")
        for number in range(count):
            disks = None
            if separate_disks is not None:
                disks = separate_disks[0] / f"host{number}", separate_disks[1]
                disks[0].mkdir(parents=True, exist_ok=True)
                disks[1].mkdir(parents=True, exist_ok=True)
            host = Host(network, number, Path(names.name), disks)
            members.append(host)
            run_ip("netns", "add", host.namespace)
            run_ip(
                "-n",
                bridge,
                "link",
                "add",
                f"port{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                host.namespace,
            )
            run_ip("-n", bridge, "link", "set", f"port{number}", "up", "master", "bridge")
            run_ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run_ip("-n", host.namespace, "link", "set", device, "up")
        yield members
    finally:
        names.close()
        for host in members:
            host.kill()
        for namespace in [bridge, *(host.namespace for host in members)]:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def processes_of(host: Host) -> list[tuple[int, list[str]]]:
    """Returns the id and the words of every process on a host."""
    pids = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True).stdout.split()
    commands = []
    for pid in pids:
        with contextlib.suppress(OSError):
            commands.append((int(pid), Path(f"/proc/{pid}/cmdline").read_text().split("\0")))
    return commands


def why_impossible() -> str | None:
    """Returns why this machine allows no hosts in network namespaces; `None` if it does."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "`ip` (iproute2) or `unshare` (util-linux) is missing"
    try:
        with hosts(1) as (host,):
            ((_, _, output),) = wait([host.start("hostname")], 30)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        return f"network namespaces cannot be made here (root is needed): {str(detail).strip()}"
    return None if output.strip() == "host0" else f"commands cannot be run in a network namespace: {output.strip()}"


def wait(processes: list[subprocess.Popen[str]], limit: float) -> list[tuple[int | None, float, str]]:
    """Returns exit status, seconds and output of each process; `None` for one that did not end in time."""
    start, deadline = time.monotonic(), time.monotonic() + limit
    results = []
    ends: dict[int, float] = {}
    while len(ends) < len(processes) and time.monotonic() < deadline:
        for number, process in enumerate(processes):
            if number not in ends and process.poll() is not None:
                ends[number] = time.monotonic() - start
        time.sleep(0.1)
    for number, process in enumerate(processes):
        status = process.poll()
        if status is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.output_file.seek(0)  # type: ignore[attr-defined]
        results.append((status, ends.get(number, limit), process.output_file.read()))  # type: ignore[attr-defined]
    return results
