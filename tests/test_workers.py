"""Two processes that train together are as one with the batches of both."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_spidr_training import RECIPE, by_others, final_state, log_values, manifest

from artifacts.errors import InputError
from artifacts.workers import ALONE, Workers, _port, together
from workflow.launch import PASSED_ON

__all__ = ["manifest"]  # a fixture

PER_STEP = {"batches": {**RECIPE["batches"], "batches_per_step": 2}}
REPOSITORY = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def start(
    manifest: Path, output: Path, size: int, launcher: str = "torchrun", **changes: Any
) -> list[subprocess.Popen]:
    """`size` processes of one training, as torchrun or srun would start them."""
    recipe = {**RECIPE, **PER_STEP, **changes}
    command = [sys.executable, "-m", "spidr.train", "--settings", json.dumps(recipe), "--device", "cpu"]
    command += ["--train", str(manifest), "--validation", str(by_others(manifest)), "--output", str(output)]
    master = {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    if launcher == "torchrun":
        master["MASTER_ADDR"] = "127.0.0.1"
    else:
        scontrol = output.parent / "scontrol"
        scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[1-2]" ] && echo 127.0.0.1 && echo node2\n')
        scontrol.chmod(0o755)
        master["PATH"] = f"{output.parent}:{os.environ['PATH']}"
    jobs = []
    for rank in range(size):
        if launcher == "torchrun":
            place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank}
        else:
            place = {"SLURM_PROCID": rank, "SLURM_STEP_NUM_TASKS": size, "SLURM_LOCALID": rank, "SLURM_JOB_ID": 7}
            place |= {"SLURM_STEP_ID": 0, "SLURM_STEP_NODELIST": "node[1-2]"}
        environment = os.environ | master | {name: str(value) for name, value in place.items()}
        jobs.append(subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True))
    return jobs


def finish(jobs: list[subprocess.Popen], code: int = 0) -> list[str]:
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [code] * len(jobs), said
    return said


def assert_equal_trainings(found: Path, expected: Path, step: int = 8) -> None:
    for name, tensor in (theirs := final_state(expected / "training", step))["learner"].items():
        mine = final_state(found / "training", step)["learner"][name]
        torch.testing.assert_close(mine, tensor, atol=1e-5, rtol=1e-5, msg=name)
    assert final_state(found / "training", step)["num_samples"] == theirs["num_samples"]
    for mine, line in zip(log_values(found / "training"), log_values(expected / "training"), strict=True):
        assert mine.keys() == line.keys()
        for key, value in line.items():
            assert mine[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4)), key


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_two_workers_are_as_one_with_the_batches_of_both(manifest: Path, tmp_path: Path, launcher: str) -> None:
    both = start(manifest, tmp_path / "two", 2, launcher)
    alone = start(manifest, tmp_path / "one", 1)
    said = finish(both)
    finish(alone)
    assert_equal_trainings(tmp_path / "two", tmp_path / "one")
    assert "train: done at" in said[0]
    assert "train: done at" not in said[1]  # the first speaks
    summaries = [json.loads((tmp_path / name / "training" / "summary.json").read_text()) for name in ("one", "two")]
    assert [summary.pop("num_devices") for summary in summaries] == [1, 2]
    assert summaries[0]["samples_per_step"] == summaries[1]["samples_per_step"]


def test_a_signal_to_one_worker_stops_both_and_either_number_goes_on(manifest: Path, tmp_path: Path) -> None:
    training = {**RECIPE["training"], "steps": 400, "checkpoint_every": 400, "validate_every": 400}
    jobs = start(manifest, tmp_path / "two", 2, training=training)
    log = tmp_path / "two" / "training" / "log.jsonl"
    while all(job.poll() is None for job in jobs) and not (log.exists() and log.read_text()):
        time.sleep(0.02)
    jobs[1].send_signal(signal.SIGTERM)
    said = finish(jobs, 75)
    assert "stopped by a signal to another worker after step" in said[0]
    assert "stopped by SIGTERM after step" in said[1]
    (saved,) = (tmp_path / "two" / "training" / "checkpoints").glob("step-*.pt")
    stopped_at = int(saved.stem.removeprefix("step-"))
    assert 0 < stopped_at < 400
    shorter = {**training, "steps": stopped_at + 4}
    finish(start(manifest, tmp_path / "two", 1, training=shorter))  # alone from here on
    finish(start(manifest, tmp_path / "whole", 1, training=shorter))
    assert_equal_trainings(tmp_path / "two", tmp_path / "whole", stopped_at + 4)


def test_a_worker_that_fails_says_why_and_the_others_that_one_did(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "audio" / "u5.wav").write_bytes(b"")
    jobs = start(manifest, tmp_path / "two", 2)
    said = {job.returncode: errors for job in jobs for _, errors in [job.communicate(timeout=120)]}
    assert said.keys() == {2, 1}  # srun gives the highest
    assert "error: " in said[2]
    assert "u5.wav: not readable as audio" in said[2].splitlines()[-1]
    assert said[1].splitlines()[-1].startswith("error: another worker ended or is out of reach, see its line (")
    assert not any("Traceback" in errors for errors in said.values())


FAILING = """
import time
import torch.distributed
from artifacts.errors import InputError, Stopped, run
from artifacts.workers import together

def wait_for_the_device():
    print("waiting", flush=True)
    time.sleep({seconds})

torch.distributed.destroy_process_group = wait_for_the_device

def main():
    with together():
        raise {error}

run(main)
"""


@pytest.mark.parametrize(
    ("error", "seconds", "code", "last", "out"),
    [
        ("InputError('a.wav: bad')", 1000, 2, "error: a.wav: bad", ""),
        ("ValueError('a fault')", 1000, 1, "[rank0]: ValueError: a fault", ""),
        ("Stopped('stopped, saved')", 0, 75, "stopped, saved", "waiting\n"),
    ],
)
def test_a_worker_that_fails_waits_for_nothing_and_one_that_was_stopped_leaves_in_good_order(
    error: str, seconds: int, code: int, last: str, out: str
) -> None:
    """The end of a group waits for kernels, and those for workers that may never come."""
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    environment = os.environ | place | {"MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", FAILING.format(error=error, seconds=seconds)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.splitlines()[-1], done.stdout) == (code, last, out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_torchrun_has_the_workers_save(manifest: Path, tmp_path: Path, number: signal.Signals) -> None:
    training = {**RECIPE["training"], "steps": 100_000, "checkpoint_every": 100_000, "validate_every": 100_000}
    recipe = {**RECIPE, **PER_STEP, "training": training}
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--signals-to-handle",
        PASSED_ON,
        "--nproc-per-node",
        "2",
    ]
    command = [sys.executable, *launcher, "-m", "spidr.train", "--settings", json.dumps(recipe)]
    command += ["--train", str(manifest), "--validation", str(by_others(manifest)), "--device", "cpu"]
    log = (tmp_path / "said").open("w+")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [*command, "--output", str(tmp_path / "two")], env=environment, cwd=REPOSITORY, stdout=log, stderr=log
    )
    lines = tmp_path / "two" / "training" / "log.jsonl"
    while job.poll() is None and not (lines.exists() and lines.read_text()):
        time.sleep(0.02)
    job.send_signal(number)
    assert job.wait(timeout=120) == 1  # torchrun's own, whatever the workers end with
    log.seek(0)
    assert f"stopped by {number.name} after step" in log.read()
    (saved,) = (tmp_path / "two" / "training" / "checkpoints").glob("step-*.pt")
    assert 0 < int(saved.stem.removeprefix("step-")) < 100_000


def test_steps_of_one_job_and_jobs_of_one_machine_meet_at_ports_of_their_own() -> None:
    ports = [_port(job, step) for job in range(4_711_000, 4_711_100) for step in range(100)]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= 20_000
    assert max(ports) < 32_768  # Linux gives those from here on to whoever asks for any


def test_a_port_that_is_taken_is_one_line(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(sys.modules[__name__], "free_port", lambda: port)
        (first, second) = start(manifest, tmp_path / "two", 2, "srun")
        said = first.communicate(timeout=120)[1]
        second.kill()
        second.communicate()
    assert first.returncode == 2
    assert said.splitlines()[-1] == (
        f"error: MASTER_PORT: found {port}, which is taken; set MASTER_PORT to a port that is free"
    )
    assert "Traceback" not in said


def test_batches_that_cannot_be_shared_out_evenly_are_refused() -> None:
    assert list(Workers(1, 4).share_of(8, "batches.batches_per_step")) == [1, 5]
    with pytest.raises(InputError, match=r"batches.batches_per_step: found 6, expected a multiple of .* workers, 4"):
        Workers(1, 4).share_of(6, "batches.batches_per_step")


def test_a_process_alone_has_no_one_to_talk_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")  # of a batch script that did not use srun
    with together() as workers:
        assert workers == ALONE
        assert workers.total(3) == 3
        assert workers.any(True)


def test_a_step_of_slurm_whose_first_host_is_not_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("PATH", "")
    for name, value in (("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_STEP_NODELIST", "gpu[1-2]")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"SLURM_STEP_NODELIST: found gpu\[1-2\], .* set MASTER_ADDR"), together():
        pass
