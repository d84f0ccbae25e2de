"""An interrupted training of a language model ends like one that was not."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_slm_training import arguments, assert_same_training, log_of, run_main, stores, trained

from artifacts.errors import Stopped
from slm.step import Outcome, Stepper

__all__ = ["stores", "trained"]  # fixtures


@pytest.mark.parametrize("stop", [4, 13, 39])
def test_a_resumed_training_ends_bit_for_bit_like_an_uninterrupted_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    take_step = Stepper.step

    def step_until_stop(*arguments: Any) -> Outcome:
        if arguments[-1] == stop:
            raise KeyboardInterrupt
        return take_step(*arguments)

    folder = tmp_path / "seed0"
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", step_until_stop)
        with pytest.raises(KeyboardInterrupt):
            run_main(patch, stores, folder)
    run_main(monkeypatch, stores, folder)
    assert_same_training(folder, trained)


SLOWLY = """
import time, slm.train
from artifacts.errors import run
from slm.step import Stepper

step = Stepper.step

def slow_step(*arguments):
    time.sleep(0.1)
    return step(*arguments)

Stepper.step = slow_step
run(slm.train.main)
"""


def test_a_training_stopped_by_a_signal_is_saved_at_once_and_ends_bit_for_bit_like_an_uninterrupted_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    command = [sys.executable, "-c", SLOWLY, *arguments(stores, folder)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while job.poll() is None and not ((folder / "log.jsonl").exists() and log_of(folder, "train")):
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    _, messages = job.communicate(timeout=30)
    assert job.returncode == 75, messages
    found = re.fullmatch(
        r"stopped by SIGTERM after step (\d+) of 40, saved: start again to go on", messages.splitlines()[-1]
    )
    assert found is not None, messages
    assert 3 <= int(found[1]) < 40
    assert max(path.name for path in (folder / "checkpoints").iterdir()) == f"step-{int(found[1]):08d}.pt"
    run_main(monkeypatch, stores, folder)
    assert_same_training(folder, trained)


KILLED = """
import os, signal, sys, time
from pathlib import Path
import slm.train
from artifacts.errors import run
from slm.step import Stepper

step, saved = Stepper.step, Path(sys.argv[sys.argv.index("--output") + 1]) / "checkpoints" / "step-00000010.pt"

def killed_in_step_13(stepper, batches, number):
    if number == 13:
        while not saved.exists():
            time.sleep(0.01)
        stepper.gradients.average_and_clip = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    return step(stepper, batches, number)

Stepper.step = killed_in_step_13
run(slm.train.main)
"""


def test_a_training_killed_within_a_step_ends_bit_for_bit_like_an_uninterrupted_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    job = subprocess.run([sys.executable, "-c", KILLED, *arguments(stores, folder)], capture_output=True, text=True)
    assert job.returncode == -signal.SIGKILL, job.stderr
    assert log_of(folder, "train")[-1]["step"] == 12  # beyond its checkpoint
    steps: list[int] = []
    take_step = Stepper.step
    monkeypatch.setattr(Stepper, "step", lambda *given: steps.append(given[-1]) or take_step(*given))
    run_main(monkeypatch, stores, folder)
    assert steps == list(range(10, 40))
    assert_same_training(folder, trained)


def test_a_training_in_pieces_of_a_time_budget_ends_like_one_in_one_piece(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    for step in range(1, 5):
        with pytest.raises(Stopped, match=f"stopped by time budget of 1e-06 s after step {step} of 40, saved"):
            run_main(monkeypatch, stores, folder, None, "--time-budget", "1e-6")
    run_main(monkeypatch, stores, folder)
    assert_same_training(folder, trained)
