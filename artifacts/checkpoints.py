"""Training checkpoints: written in the background, whole or absent, the newest readable one loaded."""

import errno
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.files import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

DAMAGED = (zipfile.BadZipFile, UnpicklingError, EOFError, RuntimeError, ValueError)
"""What reading a damaged checkpoint raises, depending on the bytes that changed."""

ADVICE = "lower optimizer.learning_rate or raise optimizer.warmup_steps"
"""What helps a training that diverged."""


class CheckpointWriter:
    """Write checkpoints of a training while it goes on; a context manager that ends when all are on disk.

    What is to be written is copied into host memory at once, the rest happens in one background
    thread. One write at most is under way, so there is one copy at most.

    Args:
        folder: Holds ``step-<8 digits>.pt``, each either whole or absent, with checksums.
        keep: How many of the newest checkpoints stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._write: Future[None] | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy what was reached after `step` steps and begin to write it, once the write before has ended.

        When it is on disk, all but the newest `keep` are removed. One of a later step is damaged, since
        the training went on from before it: it is removed too.

        Args:
            state: Tensors and plain values, nested in dictionaries, lists and tuples; all of it may be
                changed afterwards.

        Raises:
            OSError: The write before this one failed.
        """
        self.wait()
        self._write = self._thread.submit(_write, self.folder, step, _snapshot(state, {}), self.keep)

    def wait(self) -> None:
        """Until everything handed over is on disk.

        Raises:
            OSError: It could not be written.
        """
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failure:
            if kind is None:
                raise
            # What ended the training matters more, but a checkpoint that is missing must not go unnoticed.
            print(f"warning: {self.folder}: the last checkpoint was not written ({failure})", file=sys.stderr)
        finally:
            self._thread.shutdown()


def _snapshot(value: Any, copies: dict[tuple[Any, ...], "Tensor"]) -> Any:
    """The same value with every tensor copied into host memory, those of one memory as one.

    Copies from a GPU wait for what was queued before them on its current stream, and are complete on return.

    Args:
        copies: Those made so far, by the memory and layout of their originals.
    """
    import torch

    if isinstance(value, torch.Tensor):
        place = (value.device, value.untyped_storage().data_ptr(), value.storage_offset())
        key = (*place, value.dtype, value.shape, value.stride())
        if key not in copies:
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]
    if isinstance(value, dict):
        copied = copy(value)  # and not a plain dict: a module's state carries the versions of its parts
        for name, part in value.items():
            copied[name] = _snapshot(part, copies)
        return copied
    if isinstance(value, list | tuple):
        return type(value)(_snapshot(part, copies) for part in value)
    return value


def _write(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
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
        InputError: There are checkpoints, and all are damaged; or the system does not let one be read, which may
            be whole: to go on from an older one would delete it.
    """
    found = _newest_first(folder)
    for path in found:
        try:
            return _read_or_refuse(path)
        except DAMAGED as error:
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


def _read_or_refuse(path: Path) -> dict[str, Any]:
    """Read a checkpoint, a second time where the first fails: what a network disk has forgotten is opened anew.

    Raises:
        InputError: The system does not let it be read.
        Exception: One of `DAMAGED`.
    """
    try:
        try:
            return _read(path)
        except OSError:
            return _read(path)
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # it says that its parts lie where no file has any
            raise ValueError(str(error)) from None
        found = f"{errno.errorcode.get(error.errno, error.errno)} ({error.strerror})"
        raise InputError(
            f"{path}: found {found}, expected a checkpoint that can be read; it may be whole: see to the disk or to "
            "its permissions, and start again"
        ) from None


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
