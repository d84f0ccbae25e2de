"""How a training on GPUs is started: by itself, by torchrun or srun on several, or in a Slurm job of its own."""

import shlex
from typing import Any, Literal

from pydantic import Field

from artifacts.device import DeviceName
from artifacts.settings import Settings, parse_settings

SITE = ("slurm_partition", "slurm_account", "constraint", "qos")
"""Resources that say where a job runs."""

PASSED_ON = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
"""Signals that torchrun passes on to the trainers: its own choice, and the one by which Slurm may warn a job of its
end, which would kill torchrun alone."""


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

    def resources(self, device: DeviceName, mem_mb: int, cpus: int) -> dict[str, Any]:
        """Resources of a training's rule, by name; None, which snakemake leaves out, for what it does without.

        On several machines srun starts a task a GPU, in a job that has all of them (`mpi` tells the executor so). On
        one, torchrun does, within one task. A rule that only waits (`is_local`) takes no GPU; nor does any
        under ``device: cpu``, where what is said of GPUs is of processes.

        Args:
            device: What the experiment trains on.
            mem_mb: Memory a GPU.
            cpus: CPUs a GPU.
        """
        nodes, gpus = self.training_nodes, self.training_gpus
        several = nodes > 1
        on_gpus = device != "cpu"
        return {
            "mem_mb": lambda wildcards, attempt: mem_mb * gpus * attempt,  # Slurm's is of one machine
            "cpus_per_task": cpus if several else cpus * gpus,
            "gpu": gpus if on_gpus and not several and not self.is_local else None,
            "nodes": nodes if several else None,
            "mpi": "srun" if several else None,
            # The executor refuses one task a machine by the first name.
            "tasks_per_node": gpus if several and gpus > 1 else None,
            "tasks": nodes if several and gpus == 1 else None,
            "slurm_extra": f"--gpus-per-node={gpus}" if several and on_gpus else None,
        }

    def start(self, module: str, device: DeviceName, cpus: int) -> str:
        """The beginning of a rule's shell command, which the training's own arguments follow.

        What is in braces snakemake fills in at each attempt (params it computes but once or twice): the rule's
        resources, and of its params `folder`, the encoder's, and `site`.

        Args:
            module: The training's entry point.
            device: What the experiment trains on.
            cpus: CPUs a GPU.
        """
        nodes, gpus = self.training_nodes, self.training_gpus
        if self.is_local:
            processes = f"--{'processes' if device == 'cpu' else 'gpus'} {gpus}"
            own = f"--nodes {nodes} {processes} --cpus {cpus} --mem-mb {{resources.mem_mb}}"
            own += " --minutes {resources.runtime} {params.site}"
            return f"python -m workflow.submit --folder {{params.folder:q}}/training {own} -- {module}"
        if nodes > 1:
            tasks = f"--nodes {nodes} --ntasks-per-node {gpus} --cpus-per-task {cpus} --kill-on-bad-exit=1"
            return f"srun {tasks} python -m {module}"
        if gpus > 1:
            return f"torchrun --standalone --signals-to-handle {PASSED_ON} --nproc-per-node {gpus} -m {module}"
        return f"python -m {module}"

    @staticmethod
    def site(resources: Any) -> str:
        """Options of a submission that say where at the site a rule's job runs."""
        asked = {name.removeprefix("slurm_"): resources.get(name) for name in SITE}
        return shlex.join(f"--{name}={value}" for name, value in asked.items() if value is not None)


def read_launch(config: dict[str, Any]) -> Launch:
    """Read what a profile's `config`, or ``--config``, says of jobs.

    Args:
        config: All of it. The experiment's own keys stand in its file alone, which so says all of a run.

    Raises:
        InputError: An unknown key, one of the experiment's among them, or a value that is not what its key takes.
    """
    return parse_settings(Launch, config, "--config, or config of the profile (an experiment's keys stand in its file)")
