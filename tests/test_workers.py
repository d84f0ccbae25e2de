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
from test_spidr_train import RECIPE, by_others, final_state, log_values, manifest

from artifacts.errors import InputError
from artifacts.workers import ALONE, Workers, together

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
            place["SLURM_STEP_NODELIST"] = "node[1-2]"
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
