"""Stopping in good order: a signal or a time budget ends a training after the step it is in, saved."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from artifacts.errors import InputError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Slurm ends a job with the first and, where asked to, warns it with the second; the third is Ctrl-C."""


class Interruption:
    """Context manager: while it is open, a signal or the end of a wall-clock budget only asks to stop.

    The training looks at `requested` after each step, saves, and raises `Stopped`. However many signals
    come meanwhile, the saving is not disturbed; only a second Ctrl-C ends the process at once. Outside the
    main thread, where Python lets nobody handle signals, there is the budget alone.

    Args:
        budget_s: Seconds from now on; None for as long as it takes.
        now: A clock in seconds.

    Raises:
        InputError: The budget is not positive.
    """

    def __init__(self, budget_s: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        if budget_s is not None and not budget_s > 0:
            raise InputError(f"time budget: found {budget_s:g}, expected a positive number of seconds")
        self._budget_s, self._now, self._began = budget_s, now, now()
        self._signal: str | None = None
        self._handlers_before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> str | None:
        """Why to stop, as words to follow "stopped by"; None as long as nobody asks for it."""
        if self._signal is None and self._budget_s is not None and self._now() - self._began >= self._budget_s:
            return f"time budget of {self._budget_s:,.10g} s"
        return self._signal

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # A shell makes its background jobs ignore Ctrl-C: it is meant for another process.
                if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers_before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        self._signal = self._signal or name
        message = f"{name}: the training saves and stops after this step"
        if number == signal.SIGINT:
            signal.signal(number, self._handlers_before[signal.SIGINT])
            message += "; Ctrl-C once more ends it at once, unsaved"
        # Not by print: a signal may come in the middle of another print, which allows none inside it. And nobody
        # may be reading any more: Ctrl-C ends all of `python -m slm.train | tee`.
        with suppress(OSError):
            os.write(2, f"{message}\n".encode())
