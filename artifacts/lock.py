"""One process at a time trains in a folder, and goes on only with the training begun there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.files import read_json, write_json


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`; the kernel lets go when this one ends, however it ends.

    Raises:
        InputError: Another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is training here, expected none") from None
        yield


def check_same_training(path: Path, settings: dict[str, Any]) -> None:
    """Write what decides a training's result to `path`, or hold it against what is written there.

    Args:
        settings: Plain values, nested in dictionaries.

    Raises:
        InputError: A training with other settings was begun here; the first key that differs is named.
    """
    if path.exists():
        before, now = _flat(read_json(path)), _flat(settings)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise InputError(
                    f"{path}: {key}: found {before.get(key)} in the training begun here, expected {now.get(key)}; "
                    f"remove {path.parent} to start afresh"
                )
    else:
        write_json(path, settings)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf for key, part in value.items() for name, leaf in _flat(part, f"{prefix}.{key}".strip(".")).items()
    }
