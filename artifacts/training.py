"""The way of a training through its steps: on from its newest checkpoint, saved at intervals, stopped when asked to."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from artifacts.checkpoints import ADVICE, CheckpointWriter, load_newest_checkpoint
from artifacts.errors import InputError, Stopped
from artifacts.interruption import Interruption
from artifacts.record import Record
from artifacts.trackers import TrackerName
from artifacts.workers import ALONE, Workers

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Running(Protocol):
    """The part of a recipe that says how its training runs."""

    @property
    def trackers(self) -> Sequence[TrackerName]:
        """What else is told of the log."""

    @property
    def checkpoint_every(self) -> int:
        """Steps from one checkpoint to the next."""

    @property
    def keep_checkpoints(self) -> int:
        """How many of the newest stay."""


class Recipe(Protocol):
    """A recipe of any training."""

    @property
    def training(self) -> Running:
        """How it runs."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """All of it as plain values."""


class Unchecked(NamedTuple):
    """A step whose loss nobody has looked at yet; both are on the device, ()."""

    loss: "Tensor"
    gradient_norm: "Tensor"
    fileids: Sequence[str]


class Training:
    """The steps of a training; a context manager while they are made.

    `resume` comes first, then, within the context, `steps`; `learned` is called once in each step.

    Args:
        what: What the training is called beside its progress.
        folder: Holds `log.jsonl` and `checkpoints/`.
        recipe: How it runs, and what trackers are told of.
        num_steps: Of the whole training.
        counted: What is learned from, as the name of their number in a checkpoint: `num_samples`, `tokens_seen`.
        workers: All processes of the training; the first writes.
        time_budget_s: Seconds within the context after which to save and stop.

    Attributes:
        start: Number of steps that were done before.
        record: What the training tells while it runs.
    """

    def __init__(
        self,
        what: str,
        folder: Path,
        recipe: Recipe,
        num_steps: int,
        counted: str,
        workers: Workers = ALONE,
        time_budget_s: float | None = None,
    ) -> None:
        self._what, self._folder, self._recipe, self._num_steps = what, folder, recipe, num_steps
        self._counted, self._workers, self._time_budget_s = counted, workers, time_budget_s
        self._checkpoints_folder = folder / "checkpoints"
        self._checkpoints: CheckpointWriter | None = None  # of a worker that is not the first
        self.start = self._done = self._count_before = self._count = 0
        self._seconds_before = 0.0
        self._unchecked: dict[int, Unchecked] = {}

    def resume(self) -> dict[str, Any] | None:
        """What the newest checkpoint holds, on the CPU; None where there is none. The steps begin behind it.

        Raises:
            InputError: It is of a step past the last, or another than other workers found.
        """
        checkpoint = load_newest_checkpoint(self._checkpoints_folder)
        start = 0 if checkpoint is None else checkpoint["step"]
        if self._workers.total(start) != start * self._workers.size:
            raise InputError(
                f"{self._checkpoints_folder}: workers found different checkpoints, expected a shared folder"
            )
        if start > self._num_steps:
            found = f"found a training of {start} steps, expected at most {self._num_steps}"
            raise InputError(f"{self._checkpoints_folder}: {found}")
        if checkpoint is not None:
            self.start = self._done = start
            self._count_before, self._seconds_before = checkpoint[self._counted], checkpoint["seconds"]
        return checkpoint

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        with ExitStack() as stack:  # undone if one of them fails
            self._interruption = stack.enter_context(Interruption(self._time_budget_s))
            self.record = stack.enter_context(self._new_record())
            if self._workers.is_first:
                writer = CheckpointWriter(self._checkpoints_folder, self._recipe.training.keep_checkpoints)
                self._checkpoints = stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def _new_record(self) -> Record:
        return Record(
            self._what,
            self._folder,
            trackers=self._recipe.training.trackers,
            settings=self._recipe.model_dump(mode="json"),
            start=self.start,
            steps=self._num_steps,
            seen=self._count_before,
            speaks=self._workers.is_first,
        )

    def steps[Share](
        self, shares: Iterator[Share], state: Callable[[int], dict[str, Any]]
    ) -> Iterator[tuple[int, Share]]:
        """Each step that is left, by the number of steps done before it, with what it learns from.

        Behind a step that is due, or the last, or that somebody asked to stop at, what was reached is saved.

        Args:
            shares: What this worker learns from in each step.
            state: Gives what a checkpoint holds after so many steps, beside what this class knows. All workers call it.

        Raises:
            InputError: A loss or a weight is not finite, or that of `shares`.
            Stopped: A signal or the time budget stopped the training; it is saved.
        """
        for step in range(self.start, self._num_steps):
            asked = time.monotonic()
            share = next(shares)
            self.record.waited(time.monotonic() - asked)
            self._done = step + 1
            yield step, share
            stops = self._workers.any(self._interruption.requested is not None) and self._done < self._num_steps
            if stops or self.due(self._recipe.training.checkpoint_every):
                self._save(state)
            self.record.step_done()
            if stops:
                self._stop()

    def learned(self, count: int, loss: "Tensor", gradient_norm: "Tensor", fileids: Sequence[str] = ()) -> None:
        """Take note of a step, without waiting for the device.

        Args:
            count: How much this worker learned from, in what `counted` says.
            loss: Before the step, ().
            gradient_norm: Before clipping, ().
            fileids: The utterances that this worker learned from, where their names help to find what is wrong.
        """
        self._count += count
        self._unchecked[self._done] = Unchecked(loss, gradient_norm, fileids)

    def due(self, interval: int) -> bool:
        """Whether the step under way is the last of an interval, or of the training."""
        return self._done % interval == 0 or self._done == self._num_steps

    def check(self) -> None:
        """Look at the losses since the last look, all at once; the steps themselves wait for nothing.

        Raises:
            InputError: The loss of a step or its gradient is not finite; the step and its utterances are named.
        """
        if not self._unchecked:
            return
        import torch

        steps = list(self._unchecked.values())
        finite = torch.stack([step.loss + step.gradient_norm for step in steps]).isfinite().tolist()
        for number, step, is_finite in zip(self._unchecked, steps, finite, strict=True):
            if not is_finite:
                files = f"; the batch's files are {', '.join(step.fileids)}" if step.fileids else ""
                raise InputError(
                    f"step {number}: found a loss of {step.loss:.4g} with a gradient of norm {step.gradient_norm:.4g}, "
                    f"expected finite numbers; {ADVICE}{files}"
                )
        self._unchecked.clear()

    def seen(self) -> int:
        """How much all workers learned from, in all runs; all of them call it."""
        return self._count_before + int(self._workers.total(self._count))

    def summary(self, device: "torch.device") -> dict[str, Any]:
        """What every training can say of itself at its end."""
        import torch

        return {
            "steps": self._num_steps,
            "seconds": self._seconds(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "num_devices": self._workers.size,
        }

    def _seconds(self) -> float:
        """Of all runs."""
        return self._seconds_before + time.monotonic() - self._began

    def _save(self, state: Callable[[int], dict[str, Any]]) -> None:
        self.check()
        reached = state(self._done)
        seen = self.seen()
        if self._checkpoints is not None:
            known = {"step": self._done, self._counted: seen, "seconds": self._seconds()}
            self._checkpoints.save(self._done, known | reached)

    def _stop(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.wait()
        self._workers.wait()  # the first that ends has its launcher end the others, who may still be writing
        why = self._interruption.requested or "a signal to another worker"
        after = f"after step {self._done:,} of {self._num_steps:,}"
        raise Stopped(f"stopped by {why} {after}, saved: start again to go on")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
