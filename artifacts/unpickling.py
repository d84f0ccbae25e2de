"""Reading torch checkpoints of strangers, of which nothing is executed.

A pickle is a program, and released checkpoints are pickles. Those of fairseq cannot be read with
torch's restricted unpickler (``weights_only``) as they are: they hold the configuration of their
training as objects of fairseq, omegaconf or argparse. Here every class that torch does not know
stands for `Inert`, which takes whatever it is given and does nothing, and the rest is torch's.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from artifacts.errors import InputError

EXPECTED = "expected a checkpoint that torch.save wrote"


class Inert:
    """What an object of a class that is not for us becomes."""

    def __new__(cls, *_: Any) -> "Inert":
        """An object without content, whatever the pickle would make it from."""
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """Let the object's content go."""


def _dictionary(*_: Any) -> dict[Any, Any]:
    return {}


PLAIN: dict[str, Callable[..., Any]] = {"collections.defaultdict": _dictionary}
"""What becomes plain values, for the entries that the pickle puts in afterwards; torch knows the other containers."""


def load_untrusted(path: Path) -> Any:
    """The content of a checkpoint: tensors on the CPU, plain values, and `Inert` for every other object.

    The tensors are the file itself, mapped into memory: what is not looked at costs nothing. A file in
    the format from before torch 1.6, which is no zip archive, is read if it holds no other objects.

    Raises:
        InputError: There is no such file, it is truncated or damaged, not a checkpoint, or its pickle does
            what no checkpoint has to.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, {EXPECTED}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {EXPECTED}") from None
    try:
        if not is_zip:
            return torch.load(path, map_location="cpu", weights_only=True)
        with zipfile.ZipFile(path) as archive:  # torch.save writes checksums, torch.load does not look at them
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:  # as torch.save never does: little may stand for much
                    raise zipfile.BadZipFile(f"{entry.filename} is compressed")
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        unknown = get_unsafe_globals_in_checkpoint(path)
        with safe_globals([(PLAIN.get(name, Inert), name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # bytes of any kind raise errors of any kind
        found = "a damaged or truncated archive" if isinstance(error, zipfile.BadZipFile) else "what cannot be read"
        raise InputError(f"{path}: found {found} ({_reason(error)}), {EXPECTED}") from None


def _reason(error: BaseException) -> str:
    """One line, without torch's advice to trust the file, which it puts around the error of its unpickler."""
    reason = " ".join(str(error.__context__ or error).split()).partition(" Please use")[0]
    return f"{type(error).__name__}: {reason[:150]}"
