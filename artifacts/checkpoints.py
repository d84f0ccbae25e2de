"""Training checkpoints: whole or absent, the newest few kept, the newest readable one loaded."""

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.files import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

UNREADABLE = (zipfile.BadZipFile, UnpicklingError, EOFError, OSError, RuntimeError, ValueError)
"""What reading a damaged checkpoint raises, depending on the bytes that changed."""

ADVICE = "lower optimizer.learning_rate or raise optimizer.warmup_steps"
"""What helps a training that diverged."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write the checkpoint taken after `step` steps, then remove all but the newest `keep`.

    One of a later step is damaged, since the training went on from before it: it is removed too.

    Args:
        state: Tensors and plain values, nested in dictionaries and lists.
    """
    import torch

    for torn in folder.glob(".step-*"):  # of a process that was killed while it wrote
        torn.unlink()
    path = folder / f"step-{step:08d}.pt"
    with atomic_file(path) as temporary:
        torch.save(state, temporary)
    found = _newest_first(folder)
    place = found.index(path)
    for other in found[:place] + found[place + keep :]:
        other.unlink()


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that can be read, on the CPU; None where there is none.

    A damaged one is named on standard error and passed over. Only tensors and plain values are
    unpickled.

    Raises:
        InputError: There are checkpoints, and none can be read.
    """
    found = _newest_first(folder)
    for path in found:
        try:
            return _read(path)
        except UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            print(f"warning: {path}: damaged, passed over ({reason})", file=sys.stderr)
    if found:
        raise InputError(
            f"{folder}: found {len(found)} damaged checkpoints, expected one that can be read; "
            "remove them to start afresh"
        )
    return None


def require_finite(state: Mapping[str, "Tensor"], step: int) -> None:
    """Look at the weights a checkpoint is to hold: a finite loss was that of the weights before the update.

    Args:
        state: Weights by name; those that are not floating-point are finite anyway.
        step: The step after which they are, for the message.

    Raises:
        InputError: A weight is not finite.
    """
    for name, weights in state.items():
        if not weights.isfinite().all():
            raise InputError(
                f"step {step}: {name}: found a weight that is not finite, expected finite numbers; {ADVICE}"
            )


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
