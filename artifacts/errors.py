"""Bad input from the user: one clear line and exit code 2, never a traceback."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one line that names the file, line or key, what was found and what was expected.
    """


def run(main: Callable[[], None]) -> NoReturn:
    """Run an entry point and leave the process with its exit code.

    An `InputError` prints its one line and exits with 2; anything else is our own fault and keeps
    its traceback. A reader that closed the pipe (``| head``) is no error.
    """
    try:
        main()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)
