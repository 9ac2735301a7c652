"""What a launcher says in the environment: how many processes it started, and on how many machines. Needs no torch."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

#: Variables with a process's number and how many there are: of torchrun and accelerate, then of three kinds of MPI.
_RANK_AND_SIZE = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)
_LOCAL_SIZE_VARIABLES = (
    "LOCAL_WORLD_SIZE",
    "MPI_LOCALNRANKS",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
)
#: Variables by which libraries find the other processes.
_OTHER_VARIABLES = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS")


class LaunchError(ValueError):
    """Raised for a process that runs alone, where its launcher was asked for several."""


def launched_size(environment: Mapping[str, str] | None = None) -> int:
    """Returns the number of processes that the launcher says that it started; 1 without a launcher.

    Example:
        >>> launched_size({"RANK": "1", "WORLD_SIZE": "8"})
        8
        >>> launched_size({})
        1
    """
    variables = os.environ if environment is None else environment
    sizes = tuple(size for rank, size in _RANK_AND_SIZE if rank in variables)
    return max(_first_number(sizes, variables), 1)


def run_alone(environment: MutableMapping[str, str] | None = None) -> bool:
    """Makes process 0 run as if no launcher had started it, for work that is not shared by processes.

    Args:
        environment (`MutableMapping`, *optional*, defaults to `os.environ`):
            The launcher's variables, which are deleted.

    Returns:
        `bool`: Whether this is process 0. The others have nothing to do.

    Example:
        >>> variables = {"RANK": "0", "WORLD_SIZE": "8"}
        >>> run_alone(variables), variables
        (True, {})
    """
    variables = os.environ if environment is None else environment
    names = [name for pair in _RANK_AND_SIZE for name in pair]
    rank = _first_number(tuple(rank for rank, _ in _RANK_AND_SIZE), variables)
    for name in (*names, *_LOCAL_SIZE_VARIABLES, *_OTHER_VARIABLES):
        variables.pop(name, None)
    return rank == 0


def is_on_several_machines(environment: Mapping[str, str] | None = None) -> bool:
    """Returns whether some of the processes run on another machine.

    Example:
        >>> is_on_several_machines({"RANK": "0", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"})
        True
    """
    variables = os.environ if environment is None else environment
    local_size = _first_number(_LOCAL_SIZE_VARIABLES, variables)
    return 0 < local_size < launched_size(variables)


def process_label(rank: int) -> str:
    """Returns what messages call this process: its number, and its machine's name if there are several."""
    return f"process {rank}" + (f" on {socket.gethostname()}" if is_on_several_machines() else "")


def check_launch(environment: Mapping[str, str] | None = None) -> None:
    """Checks the variables of the environment by which a launcher of several processes lets them join each other.

    `accelerate launch` with a config for CPUs starts one process on each machine and gives it no number; `srun` without
    a launcher starts processes that do not know each other. Each of them would do all of the work, into one folder.

    Raises:
        `LaunchError`: If this process would run alone; the message says what to type.
    """
    variables = os.environ if environment is None else environment
    has_number = any(rank in variables for rank, _ in _RANK_AND_SIZE)
    if not has_number and "ACCELERATE_MIXED_PRECISION" in variables and "MASTER_ADDR" in variables:
        raise LaunchError(
            "`accelerate launch` was asked for several processes or machines, but started this one without a number, "
            "so that each would do all of the work alone: with a config for CPUs it starts several through MPI only. "
            "Use torchrun (torchrun --nnodes 2 --rdzv_backend c10d --rdzv_endpoint HOST:29500 -m itl_hf ...), or "
            "set num_machines and num_processes to 1"
        )
    num_tasks = _first_number(("SLURM_STEP_NUM_TASKS",), variables)
    # torchrun says on how many machines it runs; without it each task is a process.
    num_launched = _first_number(("GROUP_WORLD_SIZE",), variables) or launched_size(variables)
    if num_tasks > num_launched:
        raise LaunchError(
            f"srun started {num_tasks} tasks, but this one knows of {num_launched}: each would do all of the work "
            'alone. Start one torchrun on each machine (srun --ntasks-per-node=1 torchrun --nnodes "$SLURM_NNODES" '
            "...); if the tasks are meant to be separate runs, unset SLURM_STEP_NUM_TASKS in them"
        )


def _first_number(names: tuple[str, ...], variables: Mapping[str, str]) -> int:
    """Returns the first of these variables that is a number; 0 if there is none."""
    for name in names:
        if variables.get(name, "").isdigit():
            return int(variables[name])
    return 0
