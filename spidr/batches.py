"""Batches of crops of equal length, in an order that is a pure function of the seed and the step.

Appendix A.1: utterances are put into buckets by length and shuffled within theirs; batches take
utterances from the buckets in order until they are full. Nothing is padded: the rows of a batch are
cropped, at random, to its shortest.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from artifacts.errors import InputError
from artifacts.seeds import generator
from corpora.audio import read_crop
from corpora.manifest import Utterance
from spidr.masking import sample_masked_frames
from spidr.settings import Recipe


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, on the host."""

    fileids: list[str]
    waveforms: np.ndarray
    """float32 (rows, samples)."""
    masked: np.ndarray
    """Indices of the masked frames, ascending, int64 (rows, num_masked)."""


class Batches:
    """The endless sequence of batches of a training: ``batches[step]`` reads the one of that step.

    A batch counts an utterance as long as its bucket's upper edge. So the places where one batch
    ends and the next begins are the same in every epoch, whatever the shuffle, and the batch of any
    step is found without going through those before it.

    Args:
        utterances: The speech.
        recipe: Its `batches`, `masking` and `model` are used.
        seed: The order, the crops and the masks follow from it.

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

    def members(self, step: int) -> list[Utterance]:
        """The utterances in the batch of a step."""
        epoch, position = divmod(step, self.batches_per_epoch)
        utterances, batches = self._order(epoch)
        batch = batches[position]
        return [self.utterances[i] for i in utterances[self._cuts[batch] : self._cuts[batch + 1]]]

    def __getitem__(self, step: int) -> Batch:
        """Read the batch of a step.

        Raises:
            InputError: An audio file is missing, unreadable or not what the manifest says.
        """
        members = self.members(step)
        rng = generator(self.seed, "crops", step)
        num_samples = min(self.recipe.batches.max_samples, *(u.num_samples for u in members))
        waveforms = np.empty((len(members), num_samples), dtype=np.float32)
        for row, utterance in zip(waveforms, members, strict=True):
            row[:] = read_crop(utterance, int(rng.integers(utterance.num_samples - num_samples + 1)), num_samples)
        num_frames = self.recipe.model.num_frames(num_samples)
        rng = generator(self.seed, "masks", step)
        masked = sample_masked_frames(rng, len(members), num_frames, self.recipe.masking)
        return Batch([u.fileid for u in members], waveforms, masked)


def _cut(lengths: np.ndarray, max_batch_samples: int) -> list[int]:
    """Where batches begin and end when filled greedily with `lengths`, in order."""
    cuts, filled = [0], 0
    for index, length in enumerate(lengths.tolist()):
        if filled + length > max_batch_samples:
            cuts.append(index)
            filled = 0
        filled += length
    return [*cuts, len(lengths)]


def prefetch(batches: Batches, steps: Iterable[int]) -> Iterator[Batch]:
    """The batches of `steps` in order, read ahead by background threads."""
    num_threads = min(8, len(os.sched_getaffinity(0)))
    remaining = iter(steps)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="read batch")
    try:
        ahead: deque[Future[Batch]] = deque()
        ahead.extend(pool.submit(batches.__getitem__, step) for step in islice(remaining, 2 * num_threads))
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(batches.__getitem__, step) for step in islice(remaining, 1))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
