"""Runs that are disturbed: a process killed at a random moment, the run started again as a user would, until it ends.

Seeds decide after how many seconds, and which of the processes there are then; what these are depends on the machine.
"""

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from conftest import TINY, snakemake_command

from artifacts.errors import InputError
from workflow.unlock import unlock

MOMENTS_S = (3.0, 30.0)
"""When after a start, at the earliest and the latest: before the first is little more than Python's imports."""
LONGEST_S = 1200.0
"""A run that takes longer than this from one start hangs."""
MADE = (
    *("scores.csv", "corpora/**/*.csv", "encoders/*/*.safetensors", "quantizers/**/*.safetensors"),
    *("features/**/*.safetensors", "predictions/**/*.safetensors"),
    *("units/*/*.jsonl", "tokens/**/tokens.bin", "slm/**/model/*.safetensors", "likelihoods/**/*.csv", "tables/*.csv"),
)
"""What must be the same byte for byte, relative to the experiment's folder; JSON files say when they were made."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill -9, and what it hit."""

    after_s: float
    """Seconds after the start of snakemake."""
    victim: str
    """``all``, ``snakemake``, the module of a job, that with ``worker`` or ``shell``: what was killed."""

    def __str__(self) -> str:
        return f"{self.victim} after {self.after_s:.1f} s"


def made(run: Path) -> dict[str, str]:
    """Relative path of everything a run of ``tiny`` made whose bytes are decided, and its SHA-256."""
    root = run / "results" / "tiny"
    files = {path for pattern in MADE for path in root.glob(pattern) if path.is_file()}
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def disturbed(run: Path, draw: random.Random, kills: Sequence[bool], experiment: Path = TINY) -> Iterator[Kill]:
    """Run ``tiny``, or a part of it, in a folder to its end, with a kill after each of the first starts.

    Args:
        kills: For each, whether snakemake and all its jobs are killed at once, as by a crash of the machine, or one
            process of them. There are fewer if the run ends first.

    Yields:
        Each kill, once the run is ready to be started again.
    """
    left = list(kills)
    while True:
        job = _start(run, experiment)
        kill = _kill(job, draw, whole=left.pop(0)) if left else None
        code = job.wait(LONGEST_S)
        _clear(run)
        if kill is not None:
            yield kill
        if code == 0:
            return
        assert kill is not None or _stopped_by_another(run), f"{run}: ended with {code} though nothing was killed"


def _start(run: Path, experiment: Path) -> subprocess.Popen[bytes]:
    run.mkdir(parents=True, exist_ok=True)
    with (run / "snakemake.log").open("ab") as log:
        command = snakemake_command(run, "all", experiment=experiment)
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _kill(job: subprocess.Popen[bytes], draw: random.Random, *, whole: bool) -> Kill | None:
    """Kill after a while; None if the run ended before."""
    after_s, pick = draw.uniform(*MOMENTS_S), draw.random()
    try:
        job.wait(after_s)
        return None
    except subprocess.TimeoutExpired:
        pass
    if whole:
        os.killpg(job.pid, signal.SIGKILL)
        return Kill(after_s, "all")
    while True:
        root = psutil.Process(job.pid)
        tree = [root, *root.children(recursive=True)]
        victim = tree[int(pick * len(tree))]
        try:
            words = " ".join(victim.cmdline()).split()
            is_worker = victim != root and victim.parent().cmdline() == victim.cmdline()
            victim.kill()
        except psutil.Error:  # it ended in between
            continue
        if words:  # else it had ended, and nobody had noticed
            return Kill(after_s, "snakemake" if victim == root else _name(words, is_worker=is_worker))


def _name(words: list[str], *, is_worker: bool) -> str:
    module = words[words.index("-m") + 1] if "-m" in words else " ".join(words[:2])
    if Path(words[0]).name in ("bash", "sh"):
        return f"{module} (shell)"
    return f"{module} (worker)" if is_worker else module


def _clear(run: Path) -> None:
    """Clear the lock as a user does, who waits for jobs that outlived snakemake."""
    give_up = time.monotonic() + LONGEST_S
    while True:
        try:
            unlock(run)
            return
        except InputError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.5)


def _stopped_by_another(run: Path) -> bool:
    """Whether the last start ended since a job of an earlier one still worked: the user starts once more."""
    log = (run / "snakemake.log").read_text(errors="replace").rpartition("Building DAG of jobs")[2]
    return "another process is training here" in log
