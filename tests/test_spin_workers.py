"""Fine-tuning by Spin in processes: killed, and two at once."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_spin_training import assert_same_training, call, command, manifest, write_spidr
from test_workers import free_port

from units.encoders import load

__all__ = ["manifest"]  # a fixture


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def test_the_command_goes_on_after_a_kill_which_no_reader_survives(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_spidr(tmp_path / "base")
    job = start(command(base, manifest, tmp_path / "killed", 100_000))
    while job.poll() is None and not list((tmp_path / "killed").glob("training/checkpoints/step-*.pt")):
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    said = job.communicate(timeout=10)[1]  # ends when all who hold its standard error have ended
    assert "fine-tune" in said
    assert not (tmp_path / "killed" / "config.json").exists()
    for path in sorted((tmp_path / "killed").glob("training/checkpoints/step-*.pt"))[1:]:
        path.unlink()  # it goes on from the older of the two
    reached = int(next((tmp_path / "killed").glob("training/checkpoints/*.pt")).stem.removeprefix("step-"))
    steps = reached + 4
    for name in ("killed", "whole"):
        call(command(base, manifest, tmp_path / name, steps), monkeypatch)
    assert_same_training(tmp_path / "killed" / "training", tmp_path / "whole" / "training", steps)
    for file in ("spin.safetensors", "base/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert json.loads((tmp_path / "killed" / "training" / "summary.json").read_text())["steps"] == steps
    assert load(tmp_path / "killed", "cpu", [3]).num_layers == 3


def test_two_workers_are_as_one_with_the_rows_of_both(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_spidr(tmp_path / "base")  # without dropout, whose draws are each worker's own
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    arguments = command(base, manifest, tmp_path / "two", 6)
    jobs = [start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **master) for rank in range(2)]
    said = [job.communicate(timeout=60)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    call(command(base, manifest, tmp_path / "one", 6), monkeypatch)
    one, two = (load_file(tmp_path / name / "spin.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-4)
    logs = [(tmp_path / name / "training" / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for lines in zip(*logs, strict=True):
        alone, together = map(json.loads, lines)
        for key in ("loss", "gradient_norm", "agreement", "prediction_perplexity"):
            assert together[key] == pytest.approx(alone[key], rel=1e-3), key
