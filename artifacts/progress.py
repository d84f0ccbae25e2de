"""Progress one can see: a bar on a terminal, a line now and then in a log file."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

LINE_EVERY_S = 10.0


class Progress:
    """Count work done, with its rate and the time left.

    Args:
        what: What is being done, e.g. ``"extract features"``.
        total: Number of units of work.
        unit: What is counted, in the plural, e.g. ``"files"``.
        done: Work already done before this process started (a resumed run).
    """

    def __init__(self, what: str, total: float, unit: str, done: float = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = done
        self._bar: Bar | None = None

    def __enter__(self) -> "Progress":
        self._start = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Bar(*columns, *times, console=Console(stderr=True))
            self._task = self._bar.add_task(self.what, total=self.total, completed=int(self.done), note="")
            self._bar.start()
        else:
            print(f"{self.what}: {self.total:g} {self.unit}", file=sys.stderr, flush=True)
        return self

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Record `amount` more units of work done; `note` is shown beside the rate."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=note)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            print(self._line(note), file=sys.stderr, flush=True)

    def _line(self, note: str) -> str:
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        line = f"{self.what}: {self.done:g}/{self.total:g} {self.unit}, {rate:.3g} {self.unit}/s, {left}"
        return f"{line}, {note}" if note else line

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elapsed = time.monotonic() - self._start
        end = "done" if kind is None else "stopped"
        print(
            f"{self.what}: {end} at {self.done:g}/{self.total:g} {self.unit} in {elapsed:.1f} s",
            file=sys.stderr,
            flush=True,
        )
