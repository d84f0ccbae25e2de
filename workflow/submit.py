"""Run a long training in a Slurm job of its own that outlives its time limit, and wait for it.

    python -m workflow.submit --folder encoders/mine/training --nodes 2 --gpus 8 --cpus 8 --mem-mb 128000 \
        --minutes 1440 --partition gpu -- spidr.train --settings ... --output encoders/mine

The job's id is noted beside the checkpoints. Started again, after a ``kill -9`` too, this goes on waiting for the job
that is there instead of submitting a second one. Ctrl-C and SIGTERM cancel it; the training saves first.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError

from artifacts.errors import InputError, run
from artifacts.files import read_json_object, write_json
from artifacts.lock import locked
from workflow.requeued import Training

ACTIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"),
    *("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "PREEMPTED", "RESIZING"),
}
"""States of a job that is not over. (PREEMPTED is one that is about to be requeued.)"""

ADVICE = {
    "OUT_OF_MEMORY": "it wants more memory: raise mem_mb of its rule (set-resources in the profile)",
    "NODE_FAIL": "its machine failed; started again it goes on from its last checkpoint",
    "TIMEOUT": "it could not be stopped in time to be requeued; started again it goes on from its last checkpoint",
    "CANCELLED": "someone cancelled it; started again it goes on from its last checkpoint",
}
"""What to do after a job ended in one of these states."""

CANCELLING = (signal.SIGINT, signal.SIGTERM)
MAX_REQUEUES = 10_000
MAX_POLL_S = 30.0
MAX_SILENT_S = 1800.0
"""How long Slurm may leave questions unanswered: a controller is restarted now and then."""
LAST_LINES = 10


def wait_for_training(folder: Path, command: list[str], parameters: dict[str, Any]) -> None:
    """Submit a training, or find the job in which it already runs, and wait for its end.

    Args:
        folder: Where the training has its checkpoints; ``job.json`` and, in ``job/``, logs are written here.
        command: The trainer's, one process a GPU.
        parameters: Of the job, as submitit names them.

    Raises:
        InputError: The training failed, or a training with other settings runs in its place.
    """
    # Whoever cancels while a job is being submitted is heard once its id is known.
    signal.pthread_sigmask(signal.SIG_BLOCK, CANCELLING)
    with locked(folder / "job"):  # two that start at once submit one job
        job = _running(folder, command) or _submit(folder, command, parameters)
    _wait(job, folder)


def _running(folder: Path, command: list[str]) -> str | None:
    """The id of the job that trains here."""
    note = folder / "job.json"
    found = _jobs("--name", _name(folder), "--user", str(os.getuid()))
    job = next((job for job, state in found.items() if state in ACTIVE), None)
    if job is None:
        return None
    if note.exists() and (noted := read_json_object(note)).get("job") == job and noted.get("command") != command:
        raise InputError(f"{note}: job {job} trains here with other settings; scancel {job}, or wait for its end")
    print(f"job {job} is already there: waiting for it", flush=True)
    return job


def _submit(folder: Path, command: list[str], parameters: dict[str, Any]) -> str:
    executor = SlurmExecutor(folder / "job", max_num_timeout=MAX_REQUEUES)
    executor.update_parameters(job_name=_name(folder), **parameters)
    try:
        job = executor.submit(Training(command)).job_id
    except FailedJobError as error:
        raise InputError(f"sbatch: {' '.join(str(error).split())}") from None
    write_json(folder / "job.json", {"job": job, "command": command})
    print(f"job {job} submitted", flush=True)
    return job


def _wait(job: str, folder: Path) -> None:
    """Until the job is over.

    Raises:
        InputError: It did not end well.
    """
    logs = folder / "job" / f"{job}_0_log"
    print(f"log of the training: {logs}.err", flush=True)

    def cancel(number: int, frame: FrameType | None) -> None:
        print(f"{signal.Signals(number).name}: cancelling job {job}", flush=True)
        subprocess.run(["scancel", job], check=False)

    for number in CANCELLING:
        signal.signal(number, cancel)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CANCELLING)
    state = _last_state(job)
    if state == "COMPLETED":
        print(f"job {job}: done", flush=True)
        return
    said = Path(f"{logs}.err").read_text(errors="replace").splitlines() if Path(f"{logs}.err").exists() else []
    print("\n".join(said[-LAST_LINES:]), file=sys.stderr)
    raise InputError(f"job {job} ended as {state}, expected COMPLETED; {ADVICE.get(state, f'its log is {logs}.err')}")


def _last_state(job: str) -> str:
    """Wait until a job is over, telling its states; the last of them, or UNKNOWN of a job that Slurm has forgotten."""
    state, poll_s, answered = "", 1.0, time.monotonic()
    while state in ACTIVE or not state:
        time.sleep(poll_s)
        poll_s = min(poll_s * 1.2, MAX_POLL_S)
        try:
            now = _jobs("--jobs", job).get(job, "UNKNOWN")
        except InputError:
            if time.monotonic() - answered > MAX_SILENT_S:
                raise
            continue
        answered = time.monotonic()
        if now != state and now in ACTIVE:
            print(f"job {job}: {now}", flush=True)
            poll_s = 1.0
        state = now
    return state


def _name(folder: Path) -> str:
    """A job's name, which tells where it trains: no other note is needed to find it again."""
    return f"train-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"


def _jobs(*options: str) -> dict[str, str]:
    """Ids and states of jobs; a job that Slurm has forgotten is none.

    Raises:
        InputError: Slurm does not answer.
    """
    command = ["squeue", "--noheader", "--states=all", "--format=%i %T", *options]
    try:
        asked = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError("squeue: no such program, expected to run where Slurm is") from None
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:
        raise InputError(f"squeue: found {asked.stderr.strip()!r}, expected the state of a job")
    return dict(line.split() for line in asked.stdout.splitlines())


def main() -> None:
    """Parse the command line, submit or find the job, wait."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the training has its checkpoints")
    parser.add_argument("--nodes", type=int, required=True)
    many = parser.add_mutually_exclusive_group(required=True)
    many.add_argument("--gpus", type=int, help="GPUs on each node, one process each")
    many.add_argument("--processes", type=int, help="processes on each node, without GPUs")
    parser.add_argument("--cpus", type=int, required=True, help="CPUs a process")
    parser.add_argument("--mem-mb", type=int, required=True, help="memory on each node")
    parser.add_argument("--minutes", type=int, required=True, help="time limit, after which the job is requeued")
    for option in ("--partition", "--account", "--constraint", "--qos"):
        parser.add_argument(option)
    parser.add_argument("module", help="the training's entry point, and its arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    given = parser.parse_args()
    site = {name: getattr(given, name) for name in ("partition", "account", "constraint", "qos")}
    parameters = {
        **{name: value for name, value in site.items() if value is not None},
        "nodes": given.nodes,
        "ntasks_per_node": given.gpus or given.processes,
        **({"gpus_per_node": given.gpus} if given.gpus else {}),
        "cpus_per_task": given.cpus,
        "mem": f"{given.mem_mb}MB",
        "time": given.minutes,
        # A tenth of the time, at most five minutes; Slurm may announce the end half a minute earlier still.
        "signal_delay_s": min(300, given.minutes * 6),
        "additional_parameters": {"requeue": True},
        # Slurm does not pass the first on; without the second, a process that dies leaves the others waiting.
        "srun_args": [f"--cpus-per-task={given.cpus}", "--kill-on-bad-exit=1"],
    }
    wait_for_training(given.folder, [sys.executable, "-m", given.module, *given.arguments], parameters)


if __name__ == "__main__":
    run(main)
