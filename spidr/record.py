"""What a training tells while it runs: a line of the log now and then, progress, trackers."""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from artifacts.log import Log
from artifacts.progress import Progress
from artifacts.trackers import Trackers
from spidr.settings import SAMPLE_RATE_HZ, Recipe


class Record:
    """The record of a training from step `start` on; that of a worker who is not the first is silent.

    Args:
        folder: Holds `log.jsonl`.
        num_samples: Seen before `start`, by all workers.
        speaks: Whether anything is written.
    """

    def __init__(self, recipe: Recipe, folder: Path, start: int, num_samples: int, speaks: bool) -> None:
        self._recipe, self._folder, self._start, self._speaks = recipe, folder, start, speaks
        self._note = ""
        self._samples = num_samples
        self._waited = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> "Record":
        if self._speaks:
            self._log = self._stack.enter_context(Log(self._folder / "log.jsonl", self._start))
            settings = self._recipe.model_dump(mode="json")
            trackers = Trackers(self._recipe.training.trackers, self._folder, settings)
            self._trackers = self._stack.enter_context(trackers)
            steps = Progress("train", self._recipe.num_steps, "steps", self._start)
            self._progress = self._stack.enter_context(steps)
        self._since = time.monotonic()
        return self

    def training(self, line: dict[str, Any], num_samples: int) -> None:
        """Write what a step measured, with the speed since the last line: audio a second, share of time without data.

        Args:
            num_samples: Seen so far, by all workers.
        """
        seconds = time.monotonic() - self._since
        line["audio_s_per_s"] = (num_samples - self._samples) / SAMPLE_RATE_HZ / seconds
        line["waited_for_data"] = self._waited / seconds
        self._samples, self._waited, self._since = num_samples, 0.0, time.monotonic()
        codebooks, predictions = (
            sum(line[key].values()) / len(line[key]) for key in ("codebook_perplexity", "prediction_perplexity")
        )
        speed = f"{line['audio_s_per_s']:.3g} s of audio a second"
        self._note = f"loss {line['loss']:.3f}, perplexity {codebooks:.3g} and {predictions:.3g}, {speed}"
        self._write(line)

    def validation(self, line: dict[str, Any], seconds: float) -> None:
        """Write what a validation measured; the `seconds` it took are not the training's."""
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
