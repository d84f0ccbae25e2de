"""What a run would do, and what it would cost by estimate, before anything starts.

    snakemake -c 1 plan --configfile config/paper.yaml
    python -m workflow.plan --configfile config/paper.yaml

Jobs are those that snakemake would run now. Hours and room follow from `workflow.estimates`; where jobs of a rule have
been run, the others of that rule are taken to be as much slower or faster than estimated as those were. How long they
took, trainings say in their summary, and of other jobs their benchmark file.
"""

import argparse
import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from snakemake.api import SnakemakeApi
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    RerunTrigger,
    ResourceSettings,
)

from artifacts.errors import InputError, run
from artifacts.settings import read_yaml
from workflow.estimates import GPU_STAGES, TRAININGS, Cost, Estimates
from workflow.reading import read_experiment
from workflow.targets import Targets

REPOSITORY = Path(__file__).parent.parent
PROFILE = REPOSITORY / "profiles" / "default" / "config.yaml"
WIDTH, MIN_WIDTH = 110, 44
"""Characters of a line, and of the narrowest table: a title stays on one line."""


class Job(NamedTuple):
    """A job of the DAG."""

    rule: str
    wildcards: Mapping[str, str]
    needs: Sequence[int]
    """Jobs it waits for, by their place in the list."""
    is_due: bool
    """Whether it would run now."""
    benchmark: Path | None = None


class Plan(NamedTuple):
    """Counts and estimates of the jobs that would run."""

    jobs: Mapping[str, int]
    """By rule."""
    gpu_hours: Mapping[str, float]
    """By stage."""
    measured: Mapping[str, int]
    """Jobs of a stage's rules whose measured time the estimate follows."""
    disk: Mapping[str, float]
    """Bytes by kind."""
    chain: Sequence[str]
    """Rules of the jobs that must follow one another, of all such chains the one with most GPU hours."""
    chain_hours: float
    unknown: Mapping[str, str]
    """What is not counted, and why."""


def read_jobs(experiment_file: Path, target: str = "all") -> list[Job]:
    """The DAG of an experiment, as snakemake builds it in the working directory.

    Raises:
        InputError: Snakemake finds no way to the target.
    """
    triggers = frozenset(RerunTrigger.parse_choice(name) for name in read_yaml(PROFILE)["rerun-triggers"])
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow_api = api.workflow(
            ResourceSettings(cores=1),
            ConfigSettings(configfiles=[experiment_file]),
            snakefile=REPOSITORY / "Snakefile",
        )
        dag_api = workflow_api.dag(DAGSettings(targets={target}, rerun_triggers=triggers))
        try:
            with redirect_stdout(io.StringIO()):
                dag_api.printrulegraph()  # builds the DAG; of its public ways to do so the quickest
        except WorkflowError as error:
            raise InputError(f"{experiment_file}: {' '.join(str(error).split())}") from None
        dag = workflow_api._workflow.dag
        places = {job: place for place, job in enumerate(dag.jobs)}
        return [
            Job(
                job.rule.name,
                dict(job.wildcards.items()),
                [places[needed] for needed in dag.dependencies[job] if needed in places],
                dag.needrun(job),
                Path(job.benchmark) if job.benchmark else None,
            )
            for job in places
        ]


def make_plan(jobs: Sequence[Job], estimates: Estimates) -> Plan:
    """Count the jobs that are due, and add up what they cost."""
    costs = [estimates.cost(job.rule, job.wildcards) for job in jobs]
    corrections, measured = _corrections(jobs, costs, estimates)
    hours = [corrections.get(job.rule, 1.0) * (cost.gpu_hours or 0) for job, cost in zip(jobs, costs, strict=True)]
    by_stage: dict[str, float] = defaultdict(float)
    disk: dict[str, float] = defaultdict(float)
    for job, cost, of_job in zip(jobs, costs, hours, strict=True):
        if job.is_due:
            if job.rule in GPU_STAGES:
                by_stage[GPU_STAGES[job.rule]] += of_job
            for kind, size in cost.disk:
                disk[kind] += size or 0
    chain, chain_hours = longest_chain(jobs, hours)
    counted = Counter(job.rule for job in jobs if job.is_due and job.rule != "all")
    by_rule = Counter[str]()
    for rule, number in measured.items():
        by_rule[GPU_STAGES[rule]] += number
    return Plan(counted, by_stage, by_rule, disk, chain, chain_hours, dict(estimates.unknown))


def _corrections(
    jobs: Sequence[Job], costs: Sequence[Cost], estimates: Estimates
) -> tuple[dict[str, float], dict[str, int]]:
    """Measured over estimated GPU hours of each rule that has been measured, and the number of its jobs that were."""
    taken: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for job, cost in zip(jobs, costs, strict=True):
        if job.rule in GPU_STAGES and cost.gpu_hours:
            taken[job.rule] += [(spent, cost.gpu_hours) for spent in _taken(job, estimates)]
    sums = {rule: [sum(column) for column in zip(*pairs, strict=True)] for rule, pairs in taken.items() if pairs}
    return {rule: spent / hours for rule, (spent, hours) in sums.items()}, {r: len(p) for r, p in taken.items() if p}


def _taken(job: Job, estimates: Estimates) -> list[float]:
    """GPU hours that a job took, if it has been run.

    The benchmark of a training tells neither its GPUs nor its earlier attempts, and counts its wait in a queue; that of
    any other job is of one GPU.
    """
    if job.rule in TRAININGS:
        spent = estimates.taken(job.rule, job.wildcards)
        return [] if spent is None else [spent]
    if job.benchmark is None or not job.benchmark.is_file():
        return []
    with job.benchmark.open(newline="") as file:
        return [float(row["s"]) / 3600 for row in csv.DictReader(file, delimiter="\t")]


def longest_chain(jobs: Sequence[Job], hours: Sequence[float]) -> tuple[list[str], float]:
    """The chain of jobs that are due with most hours, and of these with most jobs; its rules in order, its hours."""
    best: dict[int, tuple[float, int, int | None]] = {}
    stack = list(range(len(jobs)))
    while stack:
        place = stack[-1]
        waiting = [needed for needed in jobs[place].needs if needed not in best]
        if place in best or waiting:
            stack = stack[:-1] if place in best else [*stack, *waiting]
            continue
        stack.pop()
        before = max(((*best[needed][:2], needed) for needed in jobs[place].needs), default=(0.0, 0, None))
        due = jobs[place].is_due and jobs[place].rule != "all"
        best[place] = (before[0] + hours[place] * due, before[1] + due, before[2])
    last: int | None = max(best, key=lambda place: best[place][:2], default=None)
    total, rules = best[last][0] if last is not None else 0.0, []
    while last is not None:
        if jobs[last].is_due and jobs[last].rule != "all":
            rules.append(jobs[last].rule)
        last = best[last][2]
    return rules[::-1], total


def print_plan(plan: Plan, name: str) -> None:
    """Print a plan as three tables and its longest chain."""
    console = Console(width=WIDTH)
    if not plan.jobs:
        console.print(f"{name}: nothing to be done")
        return
    table = _table(f"{name}: jobs", "rule", "jobs")
    for rule, count in sorted(plan.jobs.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(rule, f"{count:,}")
    table.add_section()
    table.add_row("all", f"{sum(plan.jobs.values()):,}")
    console.print(table)
    table = _table("GPU hours, an estimate for A100s", "stage", "GPU hours", "from")
    for stage, hours in sorted(plan.gpu_hours.items(), key=lambda item: -item[1]):
        jobs = plan.measured.get(stage, 0)
        table.add_row(stage, f"{hours:,.1f}", f"{jobs} measured jobs" if jobs else "workflow/estimates.py")
    table.add_section()
    table.add_row("all", f"{sum(plan.gpu_hours.values()):,.1f}", "")
    console.print(table)
    table = _table("Room on the disk, an estimate", "kind", "GB")
    for kind, size in sorted(plan.disk.items(), key=lambda item: -item[1]):
        table.add_row(kind, f"{size / 1e9:,.1f}")
    table.add_section()
    table.add_row("all", f"{sum(plan.disk.values()) / 1e9:,.1f}")
    console.print(table)
    console.print(
        f"longest chain: {len(plan.chain)} jobs, {plan.chain_hours:,.1f} GPU hours one after the other\n"
        f"  {' > '.join(plan.chain)}"
    )
    for what, why in plan.unknown.items():
        console.print(f"not counted: {what} ({why})")


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=title, min_width=MIN_WIDTH)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def plan_of(experiment_file: Path) -> Plan:
    """The plan of an experiment file, in the working directory.

    Raises:
        InputError: The file or a record of an earlier run is malformed, or snakemake finds no way to its results.
    """
    targets = Targets(read_experiment(experiment_file))
    targets.check_records()
    return make_plan(read_jobs(experiment_file), Estimates(targets, experiment_file))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--configfile", type=Path, required=True, help="the experiment file")
    file = parser.parse_args().configfile
    print_plan(plan_of(file), str(file))


if __name__ == "__main__":
    run(main)
