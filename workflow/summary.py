"""What snakemake ends with: how long each rule took, and what failed, from the benchmark files and logs of jobs."""

import csv
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

FAILED = re.compile(r"^\s+log: (?P<logs>.+) \(check log file\(s\) for error details\)$", re.MULTILINE)
"""How snakemake's own log names the log of a job that failed."""
SLURM_SAYS = re.compile(r"^(slurmstepd|srun)\b.*?: error: ")
"""A line of Slurm's in the log of its job: what ended it, such as its memory or time limit."""
LAST_LINES = 3
"""How much of a failed job's log is shown: an error is one line, what comes before may tell where."""
MOST_FAILED = 10
"""How many failed jobs are shown: one cause may have many."""


def rule_times(folder: Path, since: float = 0.0) -> dict[str, tuple[int, float, float]]:
    """Jobs, total wall-clock seconds and largest memory (MB) of each rule.

    Args:
        folder: ``results/<experiment>/benchmarks``, where a rule has a folder or, if it runs once, a file.
        since: Only of jobs that ended after this time (seconds since the epoch).
    """
    times: dict[str, tuple[int, float, float]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        if path.stat().st_mtime < since:
            continue
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                jobs, seconds, memory = times.get(rule, (0, 0.0, 0.0))
                # A job shorter than the sampling interval has no memory figure.
                used = float(row["max_rss"]) if row["max_rss"] not in ("-", "NA", "") else 0.0
                times[rule] = (jobs + 1, seconds + float(row["s"]), max(memory, used))
    return times


def failed_logs(run_logs: Sequence[Path], root: Path) -> list[Path]:
    """Logs of the jobs that failed in a run and did not do better when they were tried again.

    Args:
        run_logs: Snakemake's own logs of the run.
        root: ``results/<experiment>``; a job's log and benchmark file have the same name there, in ``logs`` and
            ``benchmarks``.
    """
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in run_logs]
    named = [match["logs"] for text in texts for match in FAILED.finditer(text)]
    logs = dict.fromkeys(Path(log) for of_job in named for log in of_job.split(", "))
    return [log for log in logs if not _was_made_later(log, root)]


def _was_made_later(log: Path, root: Path) -> bool:
    if not (log.is_file() and log.is_relative_to(root / "logs")):
        return False
    benchmark = root / "benchmarks" / log.relative_to(root / "logs").with_suffix(".tsv")
    return benchmark.is_file() and benchmark.stat().st_mtime >= log.stat().st_mtime


def print_times(console: Console, title: str, times: dict[str, tuple[int, float, float]]) -> None:
    """Print the time of each rule, longest first."""
    table = Table("rule", "jobs", "seconds", "memory, MB", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for rule, (jobs, seconds, memory) in sorted(times.items(), key=lambda item: -item[1][1]):
        table.add_row(rule, str(jobs), f"{seconds:.1f}", f"{memory:.0f}")
    total = sum(seconds for _, seconds, _ in times.values())
    table.add_section()
    table.add_row("all", str(sum(jobs for jobs, _, _ in times.values())), f"{total:.1f}", "")
    console.print(table)


def print_run(experiment: str, started: float, ended: float, run_logs: Sequence[Path]) -> None:
    """Print what a run of snakemake did: time of each rule, and each job that failed with the end of its log.

    Args:
        started: When it began, in seconds since the epoch; `ended` likewise.
        run_logs: Snakemake's own logs of it.
    """
    root, console = Path("results", experiment), Console()
    times, failed = rule_times(root / "benchmarks", started), failed_logs(run_logs, root)
    if times:
        print_times(console, f"{experiment}: this run, {(ended - started) / 60:.1f} minutes", times)
    for log in failed[:MOST_FAILED]:
        console.print(f"[bold]failed[/bold]   {escape(str(log))}", soft_wrap=True)
        if log.is_file():
            for line in _end_of(log):
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if len(failed) > MOST_FAILED:
        console.print(
            f"and {len(failed) - MOST_FAILED} more failed jobs: {', '.join(map(str, run_logs))}", soft_wrap=True
        )


def _end_of(log: Path) -> list[str]:
    """What Slurm says of the end of its job; its last lines, if it says nothing."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    from_slurm: deque[str] = deque(maxlen=LAST_LINES)
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in map(str.rstrip, file):
            last.append(line)
            if SLURM_SAYS.match(line) and line not in from_slurm:
                from_slurm.append(line)
    return list(from_slurm or last)
