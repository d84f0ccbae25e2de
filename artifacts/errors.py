"""How an entry point ends: bad input, a full disk and a stop that was asked for are one clear line and an exit code."""

import errno
import os
import sys
from collections.abc import Callable
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


def run(main: Callable[[], None]) -> NoReturn:
    """Run an entry point and leave the process with its exit code.

    An `InputError` prints its one line and exits with 2, a disk that is full, read-only or broken (`DISK`) one
    with 74, a `Stopped` or a worker that was killed one with 75, the code for "try again later"; anything else is our
    own fault and keeps its traceback. A reader that closed the pipe (``| head``) is no error.
    """
    try:
        main()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ChildProcessError as error:  # killed by the kernel, where memory is short
        print(f"error: {error}; start again", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; {DISK[error.errno]} and start again", file=sys.stderr)
        sys.exit(os.EX_IOERR)
    sys.exit(0)
