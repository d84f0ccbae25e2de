"""Processes that train one model together, started by ``torchrun`` or by ``srun``; or one process alone."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Workers:
    """The processes of one training, one device each; all of them call every method, in the same order."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def share_of(self, count: int, what: str) -> range:
        """Which of `count` pieces of work are this process's: every `size`-th.

        Raises:
            InputError: They cannot be shared out evenly; `what` is the setting to name.
        """
        if count % self.size != 0:
            raise InputError(f"{what}: found {count}, expected a multiple of the number of workers, {self.size}")
        return range(self.rank, count, self.size)

    def add_up(self, tensor: "torch.Tensor") -> None:
        """Replace a tensor by its sum over the workers, without waiting for the device."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.all_reduce(tensor)

    def total(self, number: float) -> float:
        """The sum of a number over the workers, agreed on by the hosts alone: no device is waited for."""
        if self.size == 1:
            return number
        import torch

        sums = torch.tensor(number, dtype=torch.float64)
        self.add_up(sums)
        return sums.item()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any worker, agreed on by the hosts."""
        return self.total(float(flag)) > 0

    def wait(self) -> None:
        """Until all are here."""
        self.total(0.0)


ALONE = Workers()
"""One process."""


@contextmanager
def together() -> Iterator[Workers]:
    """Join the other processes of this training, if there are any, and leave them at the end.

    Messages between GPUs go by NCCL, those between hosts by gloo.

    Raises:
        InputError: The processes were started in a way that leaves out what is needed to find the others.
    """
    place = _place()
    if place is None:
        yield ALONE
        return
    import torch
    import torch.distributed

    rank, size, local_rank = place
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", rank=rank, world_size=size
    )
    try:
        yield Workers(rank, size)
    finally:
        torch.distributed.destroy_process_group()


def _place() -> tuple[int, int, int] | None:
    """Rank, number of processes and rank on this machine; None for a process alone."""
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= variables.keys():  # torchrun
        return int(variables["RANK"]), int(variables["WORLD_SIZE"]), int(variables["LOCAL_RANK"])
    # srun tells each process of a step how many there are; in a batch script without srun it is unset.
    if int(variables.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        if "MASTER_ADDR" not in variables:
            variables["MASTER_ADDR"] = _first_host(variables["SLURM_STEP_NODELIST"])
        # The same on all nodes, and another for each job of a node.
        variables.setdefault("MASTER_PORT", str(20_000 + int(variables["SLURM_JOB_ID"]) % 40_000))
        return (
            int(variables["SLURM_PROCID"]),
            int(variables["SLURM_STEP_NUM_TASKS"]),
            int(variables["SLURM_LOCALID"]),
        )
    return None


def _first_host(nodes: str) -> str:
    """The first of a step's nodes, by a name that leads there."""
    command = ["scontrol", "show", "hostnames", nodes]
    try:
        host = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
        socket.getaddrinfo(host, None)  # torch would try for half an hour
    except (FileNotFoundError, subprocess.CalledProcessError, IndexError, socket.gaierror):
        raise InputError(
            f"SLURM_STEP_NODELIST: found {nodes}, whose first host was not found; set MASTER_ADDR to the address of "
            "the first process"
        ) from None
    return host
