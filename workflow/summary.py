"""What a run made and how long each rule took, from the benchmark files of its jobs.

python -m workflow.summary --experiment demo
"""

import argparse
import csv
from pathlib import Path

from rich.console import Console
from rich.table import Table

from artifacts.errors import InputError, run


def rule_times(folder: Path) -> dict[str, tuple[int, float, float]]:
    """Jobs, total wall-clock seconds and largest memory (MB) of each rule.

    Args:
        folder: ``results/<experiment>/benchmarks``, where a rule has a folder or, if it runs once, a file.
    """
    times: dict[str, tuple[int, float, float]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                jobs, seconds, memory = times.get(rule, (0, 0.0, 0.0))
                # A job shorter than the sampling interval has no memory figure.
                used = float(row["max_rss"]) if row["max_rss"] not in ("-", "NA", "") else 0.0
                times[rule] = (jobs + 1, seconds + float(row["s"]), max(memory, used))
    return times


def print_summary(experiment: str) -> None:
    """Print where the results of `experiment` are and the time of each rule, longest first."""
    root = Path("results") / experiment
    times = rule_times(root / "benchmarks")
    if not times:
        raise InputError(f"{root}/benchmarks: found no benchmark file, expected a finished run of {experiment}")
    table = Table("rule", "jobs", "seconds", "memory, MB", title=f"{experiment}: time of each rule")
    for column in table.columns[1:]:
        column.justify = "right"
    for rule, (jobs, seconds, memory) in sorted(times.items(), key=lambda item: -item[1][1]):
        table.add_row(rule, str(jobs), f"{seconds:.1f}", f"{memory:.0f}")
    total = sum(seconds for _, seconds, _ in times.values())
    table.add_section()
    table.add_row("all", str(sum(jobs for jobs, _, _ in times.values())), f"{total:.1f}", "")
    console = Console()
    console.print(table)
    console.print(
        f"report   {root}/report.html\nscores   {root}/scores.csv\ntables   {root}/tables/\nfigures  {root}/figures/"
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--experiment", required=True, help="name of the experiment, a folder of results/")
    print_summary(parser.parse_args().experiment)


if __name__ == "__main__":
    run(main)
