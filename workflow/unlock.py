"""Clear the lock that a killed snakemake left behind, only if nothing works here any more.

    python -m workflow.unlock

Snakemake locks its working directory and a ``kill -9`` leaves the lock. Jobs it had started may
outlive it; as long as one runs, starting again would make the same files twice.
"""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import psutil

from artifacts.errors import InputError, run

ROOMS = ("corpora", "spidr", "units", "slm", "eval")


def live_processes(folder: Path) -> list[psutil.Process]:
    """Processes of this machine that run snakemake, or a job of ours, in `folder`."""
    found = []
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            if process.pid in ours or Path(process.cwd()) != folder or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = process.cmdline()
        except (psutil.Error, OSError):
            continue
        is_snakemake = any(Path(word).name == "snakemake" for word in words[:2])
        is_job = any(flag == "-m" and module.split(".")[0] in ROOMS for flag, module in pairwise(words))
        if is_snakemake or is_job:
            found.append(process)
    return found


def unlock(folder: Path) -> bool:
    """Remove snakemake's lock on `folder`; False where there was none.

    Raises:
        InputError: A process still works in `folder`.
    """
    locks = folder / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return False
    alive = live_processes(folder)
    if alive:
        named = ", ".join(f"{process.pid} ({' '.join(process.cmdline()[:4])})" for process in alive[:3])
        raise InputError(f"{folder}: {len(alive)} process(es) still at work: {named}; wait for them or stop them first")
    shutil.rmtree(locks)
    return True


def main() -> None:
    """Entry point."""
    folder = Path.cwd()
    print("lock cleared" if unlock(folder) else "no lock to clear")


if __name__ == "__main__":
    run(main)
