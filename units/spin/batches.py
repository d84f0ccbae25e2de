"""Batches of two views of the same crops, each a pure function of the seed and its number.

Order, buckets and cuts are those of a pretraining (`spidr.batches`): all rows of a batch have one
length, that of its shortest utterance, so that nothing is padded. Perturbing takes a core about a
hundredth of the audio's duration, and Praat holds Python's lock: processes read ahead.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from artifacts.errors import InputError
from artifacts.interruption import SIGNALS
from artifacts.seeds import generator
from artifacts.workers import ALONE, Workers
from corpora.audio import read_crop
from corpora.manifest import Utterance
from spidr import batches as pretraining
from spidr.settings import BatchSettings, Recipe
from units.spin.perturbation import perturb, praat
from units.spin.settings import SpinRecipe

PR_SET_PDEATHSIG = 1
"""Of Linux' prctl: the signal that a process gets when its parent ends."""


@dataclass(frozen=True, slots=True)
class Views:
    """The share of a batch that one process learns from; it may be empty."""

    fileids: list[str]
    original: np.ndarray
    """float32 (rows, samples)."""
    perturbed: np.ndarray
    """The same crops as another speaker's, float32 (rows, samples)."""

    def to(self, device: torch.device) -> torch.Tensor:
        """Both views on a device, float32 (2 * rows, samples), the originals first; the copy is not waited for."""
        views = (torch.from_numpy(self.original), torch.from_numpy(self.perturbed))
        rows, num_samples = self.original.shape
        # Pinned memory, from which a GPU copies while the host goes on; torch keeps it for the next batches.
        both = torch.empty(2 * rows, num_samples, pin_memory=device.type == "cuda")
        return torch.cat(views, out=both).to(device, non_blocking=True)


class Batches:
    """The endless sequence of batches: ``batches[number]`` reads this process' share of one of them.

    Args:
        utterances: The speech.
        recipe: Its `batches` and `perturbation` are used.
        seed: The order, the crops and the perturbations follow from it; a perturbation from the epoch and the
            fileid besides, whatever batch the utterance is in.
        workers: Every `size`-th row of a batch is this process'.

    Raises:
        InputError: No utterance is long enough, or parselmouth is not installed.
    """

    def __init__(
        self, utterances: Sequence[Utterance], recipe: SpinRecipe, seed: int, workers: Workers = ALONE
    ) -> None:
        praat()
        self._recipe, self._seed, self._workers = recipe, seed, workers
        settings = BatchSettings(**recipe.batches.model_dump(), batches_per_step=1)
        self._order = pretraining.Batches(utterances, Recipe(batches=settings), seed)

    @property
    def num_short(self) -> int:
        """Utterances left out as too short."""
        return self._order.num_short

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches that an epoch is cut into."""
        return self._order.batches_per_epoch

    def __getitem__(self, number: int) -> Views:
        """Read a batch.

        Raises:
            InputError: An audio file is missing, unreadable or not what the manifest says.
        """
        members = self._order.members(number)
        epoch = number // self.batches_per_epoch
        rng = generator(self._seed, "crops", number)
        num_samples = min(self._recipe.batches.max_samples, *(u.num_samples for u in members))
        starts = [int(rng.integers(u.num_samples - num_samples + 1)) for u in members]
        mine = range(self._workers.rank, len(members), self._workers.size)
        original = np.empty((len(mine), num_samples), dtype=np.float32)
        perturbed = np.empty_like(original)
        for row, index in enumerate(mine):
            utterance = members[index]
            original[row] = read_crop(utterance, starts[index], num_samples)
            drawn = generator(self._seed, "perturbation", epoch, utterance.fileid)
            perturbed[row] = perturb(original[row], self._recipe.perturbation, drawn)
        return Views([members[index].fileid for index in mine], original, perturbed)


class _Guarded(Dataset[Views | InputError]):
    """Batches whose errors are values: a DataLoader would make many lines of one."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> Views | InputError:
        try:
            return self._batches[number]
        except InputError as error:
            return error


def read_ahead(batches: Batches, numbers: range) -> Iterator[Views]:
    """The batches of `numbers` in order, read ahead by processes.

    Raises:
        InputError: As ``batches[number]``.
    """
    if not numbers:
        return
    loader = DataLoader(
        _Guarded(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=min(8, len(os.sched_getaffinity(0))),
        collate_fn=_as_it_is,
        worker_init_fn=_live_as_long_as(os.getpid()),
        multiprocessing_context="fork",  # what they read with is loaded already; they never touch a GPU
    )
    for views in loader:
        if isinstance(views, InputError):
            raise views
        yield views


def _as_it_is(views: Any) -> Any:
    """In place of the default, which makes tensors of arrays: those would need shared memory."""
    return views


def _live_as_long_as(parent: int) -> Callable[[int], None]:
    """What makes a reader live neither shorter nor longer than the training.

    Slurm and terminals signal every process, and the training goes on for a step. A reader that outlived it, killed,
    would wait for ever to hand over what it read, and hold the lock of the training's folder.
    """

    def prepare(_: int) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before this
            os._exit(1)

    return prepare
