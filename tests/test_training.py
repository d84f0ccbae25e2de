"""The way of a training through its steps, on a training of one number."""

import json
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from artifacts.errors import InputError, Stopped
from artifacts.training import Training


class Running(BaseModel):
    trackers: list[Any] = []
    checkpoint_every: int = 4
    keep_checkpoints: int = 2


class Recipe(BaseModel):
    training: Running = Running()


def train(
    folder: Path,
    num_steps: int = 10,
    *,
    budget_s: float | None = None,
    breaks_at: int | None = None,
    not_finite: int | None = None,
) -> tuple[float, Training]:
    """Add 1, 2, 3, ... up; `breaks_at` is a step that raises, `not_finite` one whose loss is not a number."""
    training = Training("add", folder, Recipe(), num_steps, "num_numbers", time_budget_s=budget_s)
    checkpoint = training.resume()
    total = 0.0 if checkpoint is None else checkpoint["total"]

    def state(done: int) -> dict[str, Any]:
        assert total == done * (done + 1) / 2
        return {"total": total}

    with training:
        for step, number in training.steps(iter(count(training.start + 1)), state):
            assert number == step + 1
            if number == breaks_at:
                raise OSError("broken")
            total += number
            loss = torch.tensor(float("nan") if number == not_finite else 1 / number)
            training.learned(1, loss, torch.tensor(0.5), [f"utterance {number}"])
            if training.due(3):
                training.check()
                training.record.training({"step": number, "total": total, "seen": training.seen()}, "adding")
    return total, training


def steps_saved(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("checkpoints/step-*.pt"))


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_intervals_end_at_their_steps_and_at_the_last(tmp_path: Path) -> None:
    total, training = train(tmp_path)
    assert total == 55
    assert steps_saved(tmp_path) == [8, 10]  # 4 was saved before, and is not among the newest two
    assert [line["step"] for line in read_log(tmp_path)] == [3, 6, 9, 10]
    summary = training.summary(torch.device("cpu"))
    assert summary.pop("seconds") > 0
    assert summary == {"steps": 10, "device": "cpu", "num_devices": 1}


def test_one_that_broke_goes_on_behind_its_newest_checkpoint(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(OSError, match="broken"):
        train(tmp_path / "broken", breaks_at=8)
    assert steps_saved(tmp_path / "broken") == [4]
    total, training = train(tmp_path / "broken")
    assert (total, training.start, training.seen()) == (55, 4, 10)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    again, ended = train(tmp_path / "broken")  # nothing is left to do
    assert (again, ended.start, ended.seen()) == (55, 10, 10)


def test_one_whose_time_is_over_saves_and_stops_after_each_step(tmp_path: Path) -> None:
    for done in range(1, 10):
        with pytest.raises(Stopped, match=rf"stopped by time budget of .* after step {done} of 10, saved: start again"):
            train(tmp_path, budget_s=1e-9)
        assert steps_saved(tmp_path)[-1] == done
    assert train(tmp_path, budget_s=1e-9)[0] == 55  # the last step ends it anyway
    assert [line["seen"] for line in read_log(tmp_path)] == [3, 6, 9, 10]


@pytest.mark.parametrize(("bad", "saved"), [(2, []), (7, [4]), (10, [4, 8])])
def test_a_loss_that_is_not_finite_is_named_before_anything_of_it_is_saved(
    tmp_path: Path, bad: int, saved: list[int]
) -> None:
    with pytest.raises(InputError, match=rf"step {bad}: found a loss of nan .*the batch's files are utterance {bad}$"):
        train(tmp_path, not_finite=bad)
    assert steps_saved(tmp_path) == saved


def test_a_longer_training_is_not_taken_for_one_that_ended(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(InputError, match="checkpoints: found a training of 10 steps, expected at most 9"):
        train(tmp_path, 9)


def test_what_is_learned_from_is_asked_for_only_when_its_step_begins(tmp_path: Path) -> None:
    asked = []

    def numbers() -> Iterator[int]:
        for number in count():
            asked.append(number)
            yield number

    training = Training("ask", tmp_path, Recipe(), 3, "num_numbers")
    with training:
        for step, _ in training.steps(numbers(), lambda done: {}):
            assert asked == list(range(step + 1))
            training.learned(1, torch.ones(()), torch.ones(()))


def test_one_that_cannot_begin_leaves_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    recipe = Recipe(training=Running(trackers=["no such tracker"]))
    with pytest.raises(KeyError), Training("begin", tmp_path, recipe, 3, "num_numbers"):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
