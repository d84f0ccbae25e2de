"""What a training of a language model tells while it runs: lines of the log, progress, trackers."""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from artifacts.log import Log
from artifacts.progress import Progress
from artifacts.trackers import Trackers
from slm.settings import SlmRecipe


class Record:
    """The record of a training from step `start` on; that of a worker who is not the first is silent.

    Args:
        folder: Holds `log.jsonl`.
        tokens_seen: Predicted before `start`, by all workers.
        speaks: Whether anything is written.
    """

    def __init__(self, recipe: SlmRecipe, folder: Path, start: int, tokens_seen: int, speaks: bool) -> None:
        self._recipe, self._folder, self._start, self._speaks = recipe, folder, start, speaks
        self._note = ""
        self._tokens = tokens_seen
        self._waited = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> "Record":
        if self._speaks:
            self._log = self._stack.enter_context(Log(self._folder / "log.jsonl", self._start))
            trackers = Trackers(self._recipe.training.trackers, self._folder, self._recipe.model_dump(mode="json"))
            self._trackers = self._stack.enter_context(trackers)
            steps = Progress("train", self._recipe.training.steps, "steps", self._start)
            self._progress = self._stack.enter_context(steps)
        self._since = time.monotonic()
        return self

    def training(self, line: dict[str, Any], tokens_seen: int) -> None:
        """Write what a step measured, with the speed since the last line: tokens a second, share of time without data.

        Args:
            tokens_seen: Predicted so far, by all workers.
        """
        seconds = time.monotonic() - self._since
        line["tokens_seen"] = tokens_seen
        line["tokens_per_s"] = (tokens_seen - self._tokens) / seconds
        line["waited_for_data"] = self._waited / seconds
        self._tokens, self._waited, self._since = tokens_seen, 0.0, time.monotonic()
        self._note = f"loss {line['loss']:.3f}, {line['tokens_per_s']:,.0f} tokens a second"
        self._write({"split": "train"} | line)

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
