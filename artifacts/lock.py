"""One process at a time trains in a folder, and goes on only with the training it is itself."""

import errno
import fcntl
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.files import read_json, write_json

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What a disk without locks answers: Lustre mounted without `flock`, NFS whose server has no lock daemon."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`; the kernel lets go when this one ends, however it ends.

    On a disk without locks it keeps nobody out, and says so on standard error.

    Raises:
        InputError: Another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is training here, expected none") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            missing = f"this disk has no locks ({error.strerror})"
            print(f"warning: {folder}: {missing}: nothing keeps a second process out", file=sys.stderr)
        yield


def set_aside_another(folder: Path, settings: dict[str, Any]) -> None:
    """Let `folder` hold the training that `settings` decide, keeping what another one left there.

    Where a training with other settings was begun, its log, checkpoints, settings and trackers' files move to
    ``earlier-<k>/``, said on standard error: a changed recipe or corpus trains anew, and nothing is lost.

    Args:
        folder: Holds `settings.json`, `log.jsonl`, `checkpoints/`, and what trackers write.
        settings: Everything that decides the training's result: plain values, nested in dictionaries.
    """
    path = folder / "settings.json"
    if path.exists():
        before, now = _flat(read_json(path)), _flat(settings)
        changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
        if not changed:
            return
        taken = (re.fullmatch(r"earlier-(\d+)", path.name) for path in folder.iterdir())
        number = 1 + max((int(found[1]) for found in taken if found), default=0)  # whichever of them were deleted
        aside = folder / f"earlier-{number}"
        aside.mkdir()
        # The settings go last: killed in between, the rest is moved at the next start.
        for name in ("checkpoints", "log.jsonl", "tensorboard", "wandb", "settings.json"):
            if (folder / name).exists():
                (folder / name).rename(aside / name)
        was, now_is = before.get(changed[0]), now.get(changed[0])
        message = f"{path}: {changed[0]} was {was}, now {now_is}: training anew, the earlier training is in {aside}"
        print(message, file=sys.stderr)
    write_json(path, settings)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf for key, part in value.items() for name, leaf in _flat(part, f"{prefix}.{key}".strip(".")).items()
    }
