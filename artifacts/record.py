"""What a training tells while it runs: lines of the log, progress, trackers."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from artifacts.log import Log
from artifacts.progress import Progress
from artifacts.trackers import TrackerName, Trackers


class Record:
    """The record of a training from step `start` on; that of a worker who is not the first is silent.

    Args:
        what: What the training is called beside its progress.
        folder: Holds `log.jsonl`.
        trackers: What else is told of the log.
        settings: The recipe as plain values, for the trackers.
        steps: Of the whole training.
        seen: How much was learned from before `start`, by all workers, in whatever unit the training counts.
        speaks: Whether anything is written.
    """

    def __init__(
        self,
        what: str,
        folder: Path,
        *,
        trackers: Sequence[TrackerName],
        settings: dict[str, Any],
        start: int,
        steps: int,
        seen: int,
        speaks: bool,
    ) -> None:
        self._what, self._folder, self._names, self._settings = what, folder, trackers, settings
        self._start, self._steps, self._seen, self._speaks = start, steps, seen, speaks
        self._note = ""
        self._waited = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # undone if one of them fails
            if self._speaks:
                self._log = stack.enter_context(Log(self._folder / "log.jsonl", self._start))
                self._trackers = stack.enter_context(Trackers(self._names, self._folder, self._settings))
                self._progress = stack.enter_context(Progress(self._what, self._steps, "steps", self._start))
            self._stack = stack.pop_all()
        self._since = time.monotonic()
        return self

    def speed(self, seen: int) -> tuple[float, float]:
        """What was learned from in a second since the last time this was asked, and the share of time without data."""
        seconds = time.monotonic() - self._since
        found = (seen - self._seen) / seconds, self._waited / seconds
        self._seen, self._waited, self._since = seen, 0.0, time.monotonic()
        return found

    def training(self, line: dict[str, Any], note: str) -> None:
        """Write what a step measured.

        Args:
            note: What stands beside the progress from now on.
        """
        self._note = note
        self._write(line)

    def evaluation(self, line: dict[str, Any], seconds: float) -> None:
        """Write what an evaluation measured; the `seconds` it took are not the training's."""
        self._since += seconds
        self._write(line)

    def waited(self, seconds: float) -> None:
        """Count time in which the next batch was not there yet."""
        self._waited += seconds

    def step_done(self) -> None:
        """Count a step."""
        if self._speaks:
            self._progress.advance(note=self._note)

    def _write(self, line: dict[str, Any]) -> None:
        if self._speaks:
            self._log.write(line)
            self._trackers.write(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
