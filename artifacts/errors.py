"""How an entry point ends: bad input, a full disk and a stop that was asked for are one clear line and an exit code."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

MADE_ANEW = "remove it and start again: what is missing is made anew"
"""What to do about a damaged file; one from elsewhere is copied once more."""

DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    errno.EIO: "look after the disk",
}
"""Errors of the system that are no fault of ours, and what to do before starting again."""


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one line that names the file, line or key, what was found and what was expected.
    """


class Stopped(Exception):
    """A training that was asked to stop did so, after saving; started again, it goes on.

    The message is one line that says who asked, after which step, and that it is saved.
    """


class AnotherEnded(Exception):
    """A worker of the same training ended, and said why itself, or is out of reach.

    The message is one line of how this was noticed.
    """


def run(main: Callable[[], None]) -> NoReturn:
    """Run an entry point and leave the process with its exit code.

    An `InputError` prints its one line and exits with 2, a disk that is full, read-only or broken (`DISK`) one
    with 74, a `Stopped` or a process that was killed one with 75, the code for "try again later". `AnotherEnded`
    exits with 1: srun gives the highest code of its tasks, which is to be that of the one that failed. Anything else
    is our own fault and keeps its traceback. A reader that closed the pipe (``| head``) is no error.
    """
    try:
        main()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(_tell(error))
    sys.exit(0)


def leave(error: BaseException) -> NoReturn:
    """End the process as `run` does, but at once: nothing is closed any more, and nobody waited for."""
    code = _tell(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _tell(error: BaseException) -> int:
    """Say on standard error what ended the process; its exit code."""
    match error:
        case InputError():
            print(f"error: {error}", file=sys.stderr)
            return 2
        case Stopped():
            print(error, file=sys.stderr)
            return os.EX_TEMPFAIL
        case AnotherEnded():
            print(f"error: another worker ended or is out of reach, see its line ({error})", file=sys.stderr)
            return 1
        case KeyboardInterrupt():
            print("interrupted", file=sys.stderr)
            return 130
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case ChildProcessError():  # killed by the kernel, where memory is short
            print(f"error: {error}; start again", file=sys.stderr)
            return os.EX_TEMPFAIL
        case OSError() if error.errno in DISK:
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror}; {DISK[error.errno]} and start again", file=sys.stderr)
            return os.EX_IOERR
    sys.excepthook(type(error), error, error.__traceback__)
    return 1
