"""Hidden names of what is being written: locked by their writer, and deleted once it is dead."""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
"""How these names end."""


@contextmanager
def claimed(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new hidden file or folder beside `path`, locked; what killed writers of `path` left there is deleted.

    The kernel takes a lock back when its process ends, however it ends: so nothing is deleted that is being written,
    on a disk that several machines share neither. On a disk without locks nothing is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(path)
    lock = None
    while lock is None:
        if is_folder:
            name = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        else:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
            os.close(handle)
        lock = _lock_new(Path(name))
    try:
        yield Path(name)
    finally:
        os.close(lock)


def _lock_new(made: Path) -> int | None:
    """Lock what was just made; None if another writer took it for abandoned before that."""
    try:
        handle = _open(made)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a disk without locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    if made.exists():
        return handle
    os.close(handle)
    return None


def _delete_abandoned(path: Path) -> None:
    """Delete hidden parts of `path` that nobody holds a lock on."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        with suppress(OSError):  # its writer lives, or was quicker, or the disk has no locks
            handle = _open(part)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink()
            finally:
                os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks only files that are open to write
