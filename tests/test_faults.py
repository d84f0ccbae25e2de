"""Nothing is lost: a run killed at any moment, started again, ends with the same values."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from conftest import snakemake, snakemake_command
from test_workflow import scores

from workflow.unlock import unlock

KILLS = 5
LONGEST_S = 25.0


def test_tiny_killed_five_times_ends_with_the_same_values(tiny: Path, tmp_path: Path) -> None:
    moments = random.Random(0)
    killed = 0
    while killed < KILLS:
        command, nowhere = snakemake_command(tmp_path, "all"), subprocess.DEVNULL
        job = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, start_new_session=True)
        try:
            job.wait(moments.uniform(4.0, LONGEST_S))
            break  # finished before the next kill
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
            killed += 1
        time.sleep(0.2)  # the kernel takes the killed jobs down
        unlock(tmp_path)
    assert killed == KILLS
    done = snakemake(tmp_path, "all")
    assert done.returncode == 0, done.stderr[-5000:]
    assert scores(tmp_path) == scores(tiny)
