"""A training inside its own Slurm job: stopped and saved shortly before the job's time is over, then requeued."""

import os
import signal
import subprocess
import sys
import time

from submitit.core.utils import DelayedSubmission

GRACE_S = 60
"""How long a task waits to be ended with its job, after its trainer was asked to stop."""


class Training:
    """One task of the job, which submitit calls: the trainer as a process of its own.

    Slurm announces the end of the job's time by SIGUSR2 to every process. The trainer ignores it. In the first task
    submitit's handler calls `checkpoint`, which has the trainer save and stop, and all of its fellows with it; then
    it puts the job, under its id, into the queue again. A trainer that is asked to stop by someone else (the job is
    cancelled, or preempted, whereupon Slurm requeues it) ends the job.

    Args:
        command: The trainer's; started again, it goes on from its last checkpoint.
    """

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self) -> None:
        """Train to the end.

        Raises:
            SystemExit: The trainer failed, with its exit code, or was stopped.
        """
        self._trainer = subprocess.Popen(self.command, preexec_fn=_ignore_announcement)
        code = self._trainer.wait()
        if code == os.EX_TEMPFAIL and os.environ.get("SLURM_PROCID", "0") != "0":
            time.sleep(GRACE_S)  # the first task is about to requeue the job: to end first would end that one, too
        if code != 0:
            print(f"the trainer ended with exit code {code}", file=sys.stderr, flush=True)
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> DelayedSubmission:
        """Have the trainer save and stop; what is to be called when the job starts again."""
        self._trainer.send_signal(signal.SIGTERM)
        # Not its wait(), whose lock the interrupted call has.
        os.waitid(os.P_PID, self._trainer.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Training(self.command))


def _ignore_announcement() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
