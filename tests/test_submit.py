"""A training in a Slurm job of its own, seen from where it is waited for; Slurm is played by four small scripts here.

tests/slurm has the real one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from artifacts.device import DeviceName
from artifacts.errors import InputError
from artifacts.files import read_json
from workflow.launch import Launch, read_launch

OPTIONS = ["--nodes", "2", "--gpus", "4", "--cpus", "8", "--mem-mb", "1000", "--minutes", "60", "--partition", "gpu"]


class Slurm:
    """A queue of at most one job, whose state a file says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        scripts = {
            "squeue": f'[ -e {self.state} ] && echo "7 $(cat {self.state})"; exit 0',
            "sbatch": f'cp "$1" {folder}/batch.sh; echo PENDING > {self.state}; echo "Submitted batch job 7"',
            "scancel": f"echo CANCELLED > {self.state}",
            "srun": "exit 1",
        }
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)

    def wait_for(self, steps: int = 10, options: Sequence[str] = OPTIONS) -> subprocess.Popen[str]:
        """The command of the rule."""
        command = [sys.executable, "-m", "workflow.submit", "--folder", str(self.folder / "training"), *options]
        command += ["--", "spidr.train", "--settings", f'{{"steps": {steps}}}']
        environment = os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )

    def ends(self, state: str) -> None:
        self.state.write_text(state)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


def hear(run: subprocess.Popen[str], words: str) -> None:
    assert run.stdout is not None
    assert any(words in line for line in run.stdout), f"it never said {words!r}"


def until_submitted(slurm: Slurm) -> None:
    deadline = time.monotonic() + 60
    while not (slurm.folder / "training" / "job.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_is_submitted_noted_and_waited_for(slurm: Slurm) -> None:
    run = slurm.wait_for()
    until_submitted(slurm)
    hear(run, "job 7: PENDING")
    slurm.ends("COMPLETED")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert "job 7: done" in said
    note = read_json(slurm.folder / "training" / "job.json")
    assert note["job"] == "7"
    assert note["command"][1:] == ["-m", "spidr.train", "--settings", '{"steps": 10}']
    batch = (slurm.folder / "batch.sh").read_text()
    for line in (
        "nodes=2",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "mem=1000MB",
        "time=60",
        "requeue",
        "partition=gpu",
    ):
        assert f"#SBATCH --{line}\n" in batch, line
    assert "--cpus-per-task=8 --kill-on-bad-exit=1" in batch  # srun does not take the first over from sbatch


def test_started_again_after_a_kill_it_waits_for_the_same_job(slurm: Slurm) -> None:
    first = slurm.wait_for()
    until_submitted(slurm)
    first.kill()
    first.communicate()
    slurm.ends("RUNNING")
    (slurm.folder / "batch.sh").unlink()
    second = slurm.wait_for()
    hear(second, "job 7 is already there")
    slurm.ends("COMPLETED")
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert not (slurm.folder / "batch.sh").exists()


def test_a_training_with_other_settings_does_not_take_its_place(slurm: Slurm) -> None:
    first = slurm.wait_for()
    until_submitted(slurm)
    first.kill()
    first.communicate()
    second = slurm.wait_for(steps=20)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "job 7 trains here with other settings; scancel 7, or wait for its end" in said


def test_a_job_that_ended_badly_is_one_line_and_its_last_words(slurm: Slurm) -> None:
    run = slurm.wait_for()
    until_submitted(slurm)
    (slurm.folder / "training" / "job" / "7_0_log.err").write_text("last words\n")
    slurm.ends("OUT_OF_MEMORY")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 2
    assert said.startswith("last words\nerror: job 7 ended as OUT_OF_MEMORY, expected COMPLETED; it wants more memory")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_it_cancels_the_job(slurm: Slurm, number: signal.Signals) -> None:
    run = slurm.wait_for()
    until_submitted(slurm)
    run.send_signal(number)
    said, errors = run.communicate(timeout=60)
    assert f"{number.name}: cancelling job 7" in said
    assert "job 7 ended as CANCELLED" in errors
    assert slurm.state.read_text() == "CANCELLED\n"


def test_what_slurm_refuses_is_one_line(slurm: Slurm) -> None:
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    _, said = (run := slurm.wait_for()).communicate(timeout=60)
    assert run.returncode == 2
    assert "invalid partition specified: gpu" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("config", "device", "expected"),
    [
        ({}, "auto", "python -m spidr.train"),
        (
            {"training_gpus": 4},
            "auto",
            "torchrun --standalone --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --nproc-per-node 4"
            " -m spidr.train",
        ),
        (
            {"training_nodes": 2, "training_gpus": 4},
            "cuda",
            "srun --nodes 2 --ntasks-per-node 4 --cpus-per-task 8 --kill-on-bad-exit=1 python -m spidr.train",
        ),
        (
            {"training_nodes": 2, "training_gpus": 4, "training_launcher": "submitit"},
            "auto",
            "python -m workflow.submit --folder {params.folder:q}/training --nodes 2 --gpus 4 --cpus 8"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} {params.site} -- spidr.train",
        ),
        (
            {"training_gpus": 4, "training_launcher": "submitit"},
            "cpu",
            "python -m workflow.submit --folder {params.folder:q}/training --nodes 1 --processes 4 --cpus 8"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} {params.site} -- spidr.train",
        ),
    ],
)
def test_a_training_is_started_as_the_site_says(config: dict[str, Any], device: DeviceName, expected: str) -> None:
    assert read_launch(config).start("spidr.train", device, 8) == expected


@pytest.mark.parametrize(
    ("config", "device", "expected"),
    [
        ({"training_gpus": 4}, "auto", {"gpu": 4}),
        ({"training_gpus": 4}, "cpu", {}),
        ({"training_nodes": 2, "training_gpus": 4}, "cuda", {"slurm_extra": "--gpus-per-node=4"}),
        ({"training_nodes": 2, "training_gpus": 4}, "cpu", {}),
        ({"training_launcher": "submitit"}, "cuda", {}),  # the rule only waits
    ],
)
def test_a_training_asks_for_gpus_where_it_uses_them(
    config: dict[str, Any], device: DeviceName, expected: dict[str, object]
) -> None:
    asked = read_launch(config).resources(device, mem_mb=1000, cpus=8)
    assert {
        name: value for name, value in asked.items() if "gpu" in f"{name} {value}" and value is not None
    } == expected


def test_a_job_without_gpus_is_asked_for_by_its_processes(slurm: Slurm) -> None:
    run = slurm.wait_for(options=["--processes" if option == "--gpus" else option for option in OPTIONS])
    until_submitted(slurm)
    slurm.ends("COMPLETED")
    run.communicate(timeout=60)
    batch = (slurm.folder / "batch.sh").read_text()
    assert "#SBATCH --ntasks-per-node=4\n" in batch
    assert "--gpus" not in batch


def test_a_submission_says_what_the_site_asks_of_the_rule() -> None:
    resources = {"slurm_partition": "gpu", "constraint": "h100|a100", "mem_mb": 1000}
    assert Launch.site(resources) == "--partition=gpu '--constraint=h100|a100'"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"training_launcher": "mpi"},
            r"^--config, or config of the profile .*: training_launcher: found .mpi., expected",
        ),
        (
            {"training_gpu": 2},
            r"training_gpu: unknown key \(found 2\), expected one of job_minutes, training_launcher,",
        ),
        (
            {"traning_gpus": 8},
            r"traning_gpus: unknown key \(found 8\), expected one of job_minutes, training_launcher,",
        ),
        (
            {"seed": 7},
            r"an experiment's keys stand in its file\): seed: unknown key \(found 7\), expected one of job_min",
        ),
    ],
)
def test_what_no_launch_has_is_one_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_launch(config)
