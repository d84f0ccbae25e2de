"""What is told at the end of a run: time of each rule, and the end of each failed job's log."""

import os
import time
from pathlib import Path

import pytest
import yaml
from conftest import TINY, snakemake

from workflow.summary import failed_logs, print_run, rule_times


def benchmark(path: Path, seconds: float, ended: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t50\n")
    os.utime(path, (ended, ended))


def run_log(folder: Path, *logs: str) -> Path:
    """A log of snakemake's in which jobs with these logs failed."""
    path = folder / "snakemake.log"
    errors = [f"Error in rule x:\n    jobid: 1\n    log: {log} (check log file(s) for error details)\n" for log in logs]
    path.write_text("Building DAG of jobs...\n" + "".join(errors))
    return path


def test_only_jobs_of_this_run_are_counted(tmp_path: Path) -> None:
    benchmark(tmp_path / "extract/a.tsv", 5, ended=100)
    benchmark(tmp_path / "extract/b.tsv", 7, ended=200)
    benchmark(tmp_path / "collect.tsv", 1, ended=300)
    assert rule_times(tmp_path) == {"extract": (2, 12.0, 50.0), "collect": (1, 1.0, 50.0)}
    assert rule_times(tmp_path, since=150) == {"extract": (1, 7.0, 50.0), "collect": (1, 1.0, 50.0)}


def test_a_job_that_did_better_when_tried_again_has_not_failed(tmp_path: Path) -> None:
    root = tmp_path / "results/mine"
    for name in ("again", "never"):
        (root / "logs/kmeans").mkdir(parents=True, exist_ok=True)
        (root / f"logs/kmeans/{name}.log").write_text("error: no\n")
    benchmark(root / "benchmarks/kmeans/again.tsv", 1, ended=time.time() + 5)
    benchmark(root / "benchmarks/kmeans/never.tsv", 1, ended=100)  # of a run before
    logs = [str(root / f"logs/kmeans/{name}.log") for name in ("again", "never")]
    assert failed_logs([run_log(tmp_path, *logs, logs[1])], root) == [Path(logs[1])]


def test_each_failed_job_is_shown_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    log = Path("results/mine/logs/kmeans/a.log")
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\nthree\nerror: [a] is wrong\n")
    benchmark(Path("results/mine/benchmarks/extract/a.tsv"), 61, ended=time.time())
    many = [f"results/mine/logs/map/{number}.log" for number in range(11)]
    print_run("mine", time.time() - 120, time.time(), [run_log(tmp_path, str(log), *many)])
    told = capsys.readouterr().out
    assert "mine: this run, 2.0 minutes" in told
    assert "61.0" in told
    assert f"failed   {log}\n  two\n  three\n  error: [a] is wrong\n" in told
    assert "one\n" not in told
    assert "and 2 more failed jobs" in told


def test_what_slurm_says_of_the_end_of_its_job_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / ".snakemake/slurm_logs/rule_kmeans/a/12.log"
    log.parent.mkdir(parents=True)
    memory = "slurmstepd-n1: error: StepId=12.0 exceeded memory limit (278921216 > 209715200), being killed"
    task = "srun: error: n1: task 0: Killed"
    log.write_text(f"rule kmeans:\n{memory}\n{task}\n{memory}\nError in rule kmeans\nWorkflowError:\nAt least one\n")
    print_run("mine", time.time() - 120, time.time(), [run_log(tmp_path, str(log))])
    assert capsys.readouterr().out == f"failed   {log}\n  {memory}\n  {task}\n"


def test_a_run_that_fails_ends_with_the_log_of_the_job(tmp_path: Path) -> None:
    experiment = yaml.safe_load(TINY.read_text())
    experiment["corpora"]["mine"] = {"layout": "folder", "path": str(tmp_path / "nowhere")}
    for named in (*experiment["encoders"].values(), *experiment["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(experiment))
    done = snakemake(tmp_path, "results/tiny/corpora/mine/manifest.csv", experiment=file)
    assert done.returncode == 1
    log = "results/tiny/logs/prepare/mine.log"
    assert f"failed   {log}\n  error: {tmp_path}/nowhere: no such folder\n" in done.stdout
