"""Training checkpoints: whole or absent, the newest few kept, the newest readable one loaded."""

import sys
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from artifacts.files import atomic_file


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write the checkpoint taken after `step` steps, then remove all but the newest `keep`.

    Args:
        state: Tensors and plain values, nested in dictionaries and lists.
    """
    import torch

    for torn in folder.glob(".step-*"):  # of a process that was killed while it wrote
        torn.unlink()
    with atomic_file(folder / f"step-{step:08d}.pt") as temporary:
        torch.save(state, temporary)
    for old in _newest_first(folder)[keep:]:
        old.unlink()


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that can be read, on the CPU; None where there is none.

    A damaged one is named on standard error and passed over. Only tensors and plain values are
    unpickled.
    """
    for path in _newest_first(folder):
        try:
            return _read(path)
        except (zipfile.BadZipFile, UnpicklingError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            print(f"warning: {path}: damaged, passed over ({reason})", file=sys.stderr)
    return None


def _read(path: Path) -> dict[str, Any]:
    import torch

    with zipfile.ZipFile(path) as archive:  # torch.save writes checksums, torch.load does not look at them
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)
