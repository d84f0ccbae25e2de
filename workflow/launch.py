"""How a training on GPUs is started: by itself, by torchrun or srun on several, or in a Slurm job of its own."""

import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from artifacts.settings import Settings, parse_settings

KEYS = ("training_", "job_")
"""What this module's keys begin with, among those that a profile's `config` sets."""


class Launch(Settings):
    """What a site says of jobs, and of long trainings (`config` of its profile)."""

    job_minutes: int | None = Field(None, ge=1)
    """How long it lets a job run: a job that asked for more would wait forever. None: as long as it takes."""

    training_launcher: Literal["job", "submitit"] = "job"
    """``job``: snakemake's own, sent off again by its retries. ``submitit``: one of the training's own, which outlives
    snakemake and puts itself back into the queue when its time is over; snakemake waits for it."""
    training_nodes: int = Field(1, ge=1)
    """Machines that one training takes."""
    training_gpus: int = Field(1, ge=1)
    """GPUs that it takes on each."""

    @property
    def is_local(self) -> bool:
        """Whether the rule runs where snakemake does, and only waits there."""
        return self.training_launcher == "submitit"

    def minutes(self, wanted: int) -> int:
        """Run time to ask for, in minutes."""
        return min(wanted, self.job_minutes or wanted)

    def resources(self, mem_mb: int, cpus: int) -> dict[str, Any]:
        """Resources of a training's rule, by name; None, which snakemake leaves out, for what it does without.

        On several machines srun starts a task a GPU, in a job that has all of them (`mpi` tells the executor so). On
        one, torchrun does, within one task.

        Args:
            mem_mb: Memory a GPU.
            cpus: CPUs a GPU.
        """
        nodes, gpus = self.training_nodes, self.training_gpus
        several = nodes > 1
        return {
            "mem_mb": lambda wildcards, attempt: mem_mb * gpus * attempt,  # Slurm's is of one machine
            "cpus_per_task": cpus if several else cpus * gpus,
            "gpu": None if several else gpus,
            "nodes": nodes if several else None,
            "mpi": "srun" if several else None,
            # The executor refuses one task a machine by the first name.
            "tasks_per_node": gpus if several and gpus > 1 else None,
            "tasks": nodes if several and gpus == 1 else None,
            "slurm_extra": f"--gpus-per-node={gpus}" if several else None,
        }

    def start(self, module: str, folder: Path, cpus: int, resources: Any) -> str:
        """The words of a shell command that the training's own arguments follow.

        Args:
            module: The training's entry point.
            folder: The encoder's; beside its checkpoints a job of its own is noted.
            cpus: CPUs a GPU.
            resources: The rule's.
        """
        nodes, gpus = self.training_nodes, self.training_gpus
        if self.is_local:
            return shlex.join([*self._submission(folder / "training", cpus, resources), "--", module])
        if nodes > 1:
            tasks = ["--nodes", nodes, "--ntasks-per-node", gpus, "--cpus-per-task", cpus, "--kill-on-bad-exit=1"]
            return shlex.join(["srun", *map(str, tasks), "python", "-m", module])
        if gpus > 1:
            return shlex.join(["torchrun", "--standalone", "--nproc-per-node", str(gpus), "-m", module])
        return f"python -m {module}"

    def _submission(self, folder: Path, cpus: int, resources: Any) -> list[str]:
        asked = {
            "--folder": folder,
            "--nodes": self.training_nodes,
            "--gpus": self.training_gpus,
            "--cpus": cpus,
            "--mem-mb": resources.mem_mb,
            "--minutes": resources.runtime,
            "--partition": resources.get("slurm_partition"),
            "--account": resources.get("slurm_account"),
            "--constraint": resources.get("constraint"),
            "--qos": resources.get("qos"),
        }
        words = ["python", "-m", "workflow.submit"]
        for option, value in asked.items():
            words += [option, str(value)] if value is not None else []
        return words


def read_launch(config: dict[str, Any]) -> Launch:
    """Read what a profile's `config` says of trainings; keys of other names are the experiment's.

    Raises:
        InputError: A value is not what its key takes.
    """
    found = {key: value for key, value in config.items() if key.startswith(KEYS)}
    return parse_settings(Launch, found, "config of the profile")
