"""Processes that train one model together, started by ``torchrun`` or by ``srun``; or one process alone."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts.errors import AnotherEnded, InputError, Stopped, leave

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
        """Replace a tensor by its sum over the workers, without waiting for the device.

        Raises:
            AnotherEnded: The sum was not made, as it is not where a worker is missing.
        """
        if self.size > 1:
            import torch.distributed

            try:
                torch.distributed.all_reduce(tensor)
            except RuntimeError as error:
                # Messages between hosts have no class of error of their own.
                if tensor.is_cuda and not isinstance(error, torch.distributed.DistError):
                    raise
                raise AnotherEnded(_one_line(error)) from error

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

    Messages between GPUs go by NCCL, those between hosts by gloo. Of several processes, one that fails says why and
    ends right here: to leave the others in good order it would wait for messages that will never be answered.

    Raises:
        InputError: The processes were started in a way that leaves out what is needed to find the others, or the
            port at which they meet is taken.
        AnotherEnded: The others were not found.
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
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        torch.distributed.init_process_group(backend, rank=rank, world_size=size)
    except torch.distributed.DistError as error:
        if "EADDRINUSE" not in str(error):
            raise AnotherEnded(_one_line(error)) from error
        port = os.environ["MASTER_PORT"]
        raise InputError(f"MASTER_PORT: found {port}, which is taken; set MASTER_PORT to a port that is free") from None
    try:
        yield Workers(rank, size)
    except Stopped:  # all of them are
        torch.distributed.destroy_process_group()
        raise
    except BaseException as error:
        leave(error)
    torch.distributed.destroy_process_group()


def _one_line(error: Exception) -> str:
    """What torch says before it lists its own calls."""
    return str(error).strip().partition("\n")[0]


def _place() -> tuple[int, int, int] | None:
    """Rank, number of processes and rank on this machine; None for a process alone."""
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= variables.keys():  # torchrun
        return int(variables["RANK"]), int(variables["WORLD_SIZE"]), int(variables["LOCAL_RANK"])
    # srun tells each process of a step how many there are; in a batch script without srun it is unset.
    if int(variables.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        if "MASTER_ADDR" not in variables:
            variables["MASTER_ADDR"] = _first_host(variables["SLURM_STEP_NODELIST"])
        variables.setdefault("MASTER_PORT", str(_port(int(variables["SLURM_JOB_ID"]), int(variables["SLURM_STEP_ID"]))))
        return (
            int(variables["SLURM_PROCID"]),
            int(variables["SLURM_STEP_NUM_TASKS"]),
            int(variables["SLURM_LOCALID"]),
        )
    return None


def _port(job: int, step: int) -> int:
    """The same on all nodes, and another for each step and each job of a node, below those that Linux hands out."""
    return 20_000 + (101 * job + step) % 12_000  # 101: steps of jobs that follow each other lie apart


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
