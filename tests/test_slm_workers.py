"""Two processes that train a language model together are as one with the contexts of both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_slm_training import arguments, changed, log_of, run_main, stores
from test_workers import free_port

__all__ = ["stores"]  # a fixture


def start(given: list[str], size: int) -> list[subprocess.Popen[str]]:
    """The processes of one training, as torchrun would start them."""
    command = [sys.executable, "-m", "slm.train", *given]
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    environments = [os.environ | master | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    return [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for env in environments]


def test_two_workers_are_as_one_with_the_contexts_of_both(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = changed(model={"dropout": 0.0}, training={"steps": 12, "batch_size": 3, "validate_every": 4})
    jobs = start(arguments(stores, tmp_path / "two", recipe), 2)
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert "train: " in said[0]
    assert "train: " not in said[1]
    run_main(monkeypatch, stores, tmp_path / "one", recipe)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=0, msg=name)
    for split in ("train", "validation"):
        for alone, together in zip(log_of(tmp_path / "one", split), log_of(tmp_path / "two", split), strict=True):
            assert together.pop("split") == alone.pop("split")
            assert together == pytest.approx(alone, rel=1e-4)
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert [summary["num_devices"] for summary in summaries] == [1, 2]
    assert summaries[0]["tokens_seen"] == summaries[1]["tokens_seen"]


def test_batches_that_workers_cannot_share_are_one_line(stores: Path, tmp_path: Path) -> None:
    recipe = changed(training={"accumulation": 3})
    jobs = start(arguments(stores, tmp_path / "two", recipe), 2)
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert {job.returncode for job in jobs} == {2}, said
    expected = "error: training.accumulation: found 3, expected a multiple of the number of workers, 2"
    assert expected in said[0].splitlines()
    assert not (tmp_path / "two" / "model").exists()
