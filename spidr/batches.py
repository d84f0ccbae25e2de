"""Batches of crops of equal length, each a pure function of the seed and its number.

Appendix A.1: utterances are put into buckets by length and shuffled within theirs; batches take
utterances from the buckets in order until they are full. Nothing is padded: the rows of a batch are
cropped, at random, to its shortest.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from artifacts.errors import InputError
from artifacts.seeds import generator
from corpora.audio import read_crop
from corpora.manifest import Utterance
from spidr.masking import sample_masked_frames
from spidr.settings import Recipe

ATTEMPTS = 10
"""Batches of bad audio alone, one after the other, that end a training which leaves bad audio out: a disk is gone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, and all that is drawn at random for it on the host; the device waits for none of it."""

    number: int
    fileids: list[str]
    waveforms: Tensor
    """float32 (rows, samples)."""
    masked: Tensor
    """Indices of the masked frames, ascending, int64 (rows, num_masked)."""
    kept: Tensor | None
    """For each layer of the student, whether layer drop leaves it in, bool (num_layers,); None without layer drop."""
    left_out: dict[str, str]
    """What is wrong with the utterances that are missing, by fileid."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; the copy from pinned memory is not waited for."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "Batch":
        """The batch in pinned memory, from which a GPU copies while the host goes on."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        kept = None if self.kept is None else change(self.kept)
        return replace(self, waveforms=change(self.waveforms), masked=change(self.masked), kept=kept)


class Batches:
    """The endless sequence of batches of a training: ``batches[number]`` reads one of them.

    A batch counts an utterance as long as its bucket's upper edge. So the places where one batch
    ends and the next begins are the same in every epoch, whatever the shuffle, and any batch is
    found without going through those before it.

    Args:
        utterances: The speech.
        recipe: Its `batches`, `masking`, `model` and `training` are used.
        seed: The order, the crops, the masks and layer drop follow from it.

    Raises:
        InputError: No utterance is long enough.
    """

    def __init__(self, utterances: Sequence[Utterance], recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        settings = recipe.batches
        self.utterances = [u for u in utterances if u.num_samples >= settings.min_samples]
        self.num_short = len(utterances) - len(self.utterances)
        if not self.utterances:
            raise InputError(
                f"training data: found no utterance among {len(utterances)} of at least "
                f"{settings.min_samples} samples (batches.min_samples)"
            )
        width = (settings.max_samples - settings.min_samples) / settings.num_buckets
        lengths = np.array([min(u.num_samples, settings.max_samples) for u in self.utterances])
        self._buckets = np.minimum((lengths - settings.min_samples) // width, settings.num_buckets - 1).astype(int)
        edges = np.ceil(settings.min_samples + (np.sort(self._buckets) + 1) * width)
        self._cuts = _cut(edges.astype(int), settings.max_batch_samples)
        self._order = lru_cache(maxsize=2)(self._shuffle)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches that an epoch is cut into."""
        return len(self._cuts) - 1

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Order of the utterances of an epoch, shortest bucket first, and order of its batches."""
        rng = generator(self.seed, "order", epoch)
        utterances = np.lexsort((rng.random(len(self._buckets)), self._buckets))
        return utterances, rng.permutation(self.batches_per_epoch)

    def members(self, number: int) -> list[Utterance]:
        """The utterances in a batch."""
        epoch, position = divmod(number, self.batches_per_epoch)
        utterances, batches = self._order(epoch)
        batch = batches[position]
        return [self.utterances[i] for i in utterances[self._cuts[batch] : self._cuts[batch + 1]]]

    def __getitem__(self, number: int) -> Batch:
        """Read a batch; one of bad audio alone, where that is left out, has the rows of the next that is not.

        Raises:
            InputError: An audio file is missing, unreadable or not what the manifest says; where
                ``training.bad_audio`` is ``skip``, every one of `ATTEMPTS` batches is.
        """
        left_out: dict[str, str] = {}
        for source in range(number, number + ATTEMPTS):
            fileids, waveforms, bad = self._read_rows(source)
            left_out |= bad
            if fileids:
                break
        else:
            reason = next(iter(left_out.values()))
            raise InputError(f"{reason}; {ATTEMPTS} batches from number {number} on hold bad audio alone")
        num_frames = self.recipe.model.num_frames(waveforms.shape[1])
        rng = generator(self.seed, "masks", number)
        masked = torch.from_numpy(sample_masked_frames(rng, len(fileids), num_frames, self.recipe.masking))
        return Batch(number, fileids, waveforms, masked, self._draw_kept_layers(number), left_out)

    def _read_rows(self, number: int) -> tuple[list[str], Tensor, dict[str, str]]:
        """Fileids and crops (rows, samples) of a batch, and what is wrong with those of its members it lacks."""
        members = self.members(number)
        rng = generator(self.seed, "crops", number)
        num_samples = min(self.recipe.batches.max_samples, *(u.num_samples for u in members))
        waveforms = torch.empty(len(members), num_samples)
        fileids: list[str] = []
        left_out: dict[str, str] = {}
        for utterance in members:
            start = int(rng.integers(utterance.num_samples - num_samples + 1))
            try:
                waveforms[len(fileids)] = torch.from_numpy(read_crop(utterance, start, num_samples))
            except InputError as error:
                if self.recipe.training.bad_audio == "fail":
                    raise
                left_out[utterance.fileid] = str(error)
            else:
                fileids.append(utterance.fileid)
        return fileids, waveforms[: len(fileids)], left_out

    def _draw_kept_layers(self, number: int) -> Tensor | None:
        settings = self.recipe.model
        if settings.layer_drop == 0:
            return None
        drawn = generator(self.seed, "layer drop", number).random(settings.num_layers)
        return torch.from_numpy(drawn >= settings.layer_drop)


def name_left_out(batches: Iterable[Batch]) -> int:
    """Say what is wrong with the utterances left out of batches, on standard error, and count them."""
    reasons = [reason for batch in batches for reason in batch.left_out.values()]
    for reason in reasons:
        print(f"warning: left out: {reason}", file=sys.stderr)
    return len(reasons)


def _cut(lengths: np.ndarray, max_batch_samples: int) -> list[int]:
    """Where batches begin and end when filled greedily with `lengths`, in order."""
    cuts, filled = [0], 0
    for index, length in enumerate(lengths.tolist()):
        if filled + length > max_batch_samples:
            cuts.append(index)
            filled = 0
        filled += length
    return [*cuts, len(lengths)]


def prefetch(batches: Batches, numbers: Iterable[int], device: torch.device) -> Iterator[Batch]:
    """The batches of `numbers` in order, read ahead by background threads, on their way to the device."""
    num_threads = min(8, len(os.sched_getaffinity(0)))

    def read(number: int) -> Batch:
        batch = batches[number]
        return batch.pin() if device.type == "cuda" else batch

    remaining = iter(numbers)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="read batch")
    try:
        ahead: deque[Future[Batch]] = deque()
        ahead.extend(pool.submit(read, number) for number in islice(remaining, 2 * num_threads))
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(read, number) for number in islice(remaining, 1))
            yield batch.to(device)
    finally:
        pool.shutdown(cancel_futures=True)
