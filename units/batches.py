"""Batches of equal length: the only ones that leave every model's features as they are.

Padding changes the features of models whose first convolution is followed by a group norm (HuBERT
Base) and of data2vec, with or without an attention mask. So utterances share a batch only where they have the same
number of samples. On a CPU each goes alone, and its features then do not depend, to the last bit,
on what else the corpus holds; on a GPU they agree to 1e-6. A recording that is cut (`units.pieces`) goes alone
everywhere, one piece at a time.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from artifacts.errors import InputError
from corpora.audio import SAMPLE_RATE_HZ, read_waveform
from corpora.manifest import Utterance, read_manifest
from units.encoders import Encoder
from units.pieces import LONGEST_S, framing_of, read_pieces

WINDOW = 2048
"""Most consecutive utterances among which equal lengths are looked for, and which no shard parts."""
WINDOW_SAMPLES = 8 * 3600 * SAMPLE_RATE_HZ
"""Speech from which a window is full, 8 h: more than 2,048 utterances of LibriSpeech have (7 h), so that it parts
longer recordings alone, of which few share a batch."""
READERS = 4
"""Audio files read at the same time, ahead of the model."""


class Shard(NamedTuple):
    """One of several equal parts of the work."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Shard()


class Stretch[K](NamedTuple):
    """What was computed of successive frames of one utterance."""

    utterance: int
    """Its index."""
    frames: range
    """Which of the utterance's frames."""
    arrays: dict[K, np.ndarray]
    """Each (frames, ...)."""


def parse_shard(text: str) -> Shard:
    """The shard that ``0/4`` stands for, the first of four.

    Raises:
        InputError: It is not two whole numbers, the first below the second.
    """
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise InputError(f"--shard: found {text!r}, expected NUMBER/OF, from 0/OF on")
    return Shard(int(number), int(of))


def read_speech(manifest: Path, encoder: Encoder) -> list[Utterance]:
    """The utterances of a manifest, each long enough for the encoder.

    Raises:
        InputError: The manifest is empty, or an utterance is shorter than one frame.
    """
    utterances = read_manifest(manifest)
    if not utterances:
        raise InputError(f"{manifest}: found no utterance, expected at least one")
    for utterance in utterances:
        if encoder.num_frames(utterance.num_samples) == 0:
            raise InputError(
                f"{manifest}: {utterance.fileid} has {utterance.num_samples} samples "
                f"({utterance.num_samples / SAMPLE_RATE_HZ:.3f} s), expected enough for one frame"
            )
    return utterances


def windows(lengths: Sequence[int]) -> Iterator[range]:
    """Indices of the utterances of each window, which ends at `WINDOW` of them or at `WINDOW_SAMPLES` of speech.

    From where a window begins, the windows are the same whatever comes before.

    Args:
        lengths: Samples of each utterance.
    """
    first = samples = 0
    for index, length in enumerate(lengths):
        samples += length
        if index + 1 - first == WINDOW or samples >= WINDOW_SAMPLES:
            yield range(first, index + 1)
            first, samples = index + 1, 0
    if first < len(lengths):
        yield range(first, len(lengths))


def share(utterances: Sequence[Utterance], shard: Shard) -> Sequence[Utterance]:
    """A shard's consecutive utterances: whole windows, about as much speech as any other shard's.

    Batches lie within windows, so that they are the same however many shards there are.
    """
    lengths = [utterance.num_samples for utterance in utterances]
    whole = list(windows(lengths))
    samples = [sum(lengths[window.start : window.stop]) for window in whole]
    middles = np.cumsum(samples) - np.array(samples) / 2
    owners = (middles * shard.of / max(1, sum(samples))).astype(int)
    mine = np.flatnonzero(owners == shard.number)
    return utterances[whole[mine[0]].start : whole[mine[-1]].stop] if len(mine) else []


def plan(lengths: Sequence[int], batch_samples: int, longest: float = math.inf) -> Iterator[list[int]]:
    """Indices of the utterances of each batch, batches in the order of their first utterance.

    Args:
        lengths: Samples of each utterance.
        batch_samples: Most samples in a batch of several; an utterance that has more goes alone.
        longest: Most samples of an utterance that is not cut; one that has more goes alone.
    """
    for window in windows(lengths):
        batches: list[list[int]] = []
        open_batch: dict[int, list[int]] = defaultdict(list)
        for index in window:
            length = lengths[index]
            batch = open_batch[length]
            if not batch or length > longest or (len(batch) + 1) * length > batch_samples:
                batch = open_batch[length] = []
                batches.append(batch)
            batch.append(index)
        yield from batches


def encode[K](
    encoder: Encoder,
    utterances: Sequence[Utterance],
    compute: Callable[[np.ndarray], dict[K, np.ndarray]],
    longest_s: float = LONGEST_S,
) -> Iterator[Stretch[K]]:
    """What `compute` makes of waveforms, utterance by utterance in the order of `plan`: a few batches are read ahead.

    Args:
        compute: From waveforms (batch, samples) to arrays (batch, frames, ...).
        longest_s: Recordings of more seconds are cut (`units.pieces`).

    Returns:
        One stretch an utterance, or, of a recording that is cut, one a piece, in their order: no more of it lies in
        memory, unless the caller keeps it.

    Raises:
        InputError: An audio file that cannot be read, as `corpora.audio.read_waveform`.
    """
    framing = framing_of(encoder.num_frames, encoder.frame_rate_hz)
    longest = longest_s * SAMPLE_RATE_HZ if framing else math.inf

    def waveforms_of(indices: list[int]) -> list[Future[np.ndarray]]:
        if utterances[indices[0]].num_samples > longest:
            return []  # read piece by piece, when its turn comes
        return [pool.submit(read_waveform, utterances[index]) for index in indices]

    def computed(indices: list[int], read: list[Future[np.ndarray]]) -> Iterator[Stretch[K]]:
        if framing and not read:
            first = 0
            for piece in read_pieces(utterances[indices[0]], framing, longest_s):
                frames = range(first, first + encoder.num_frames(len(piece)))
                yield Stretch(indices[0], frames, {key: array[0] for key, array in compute(piece[None]).items()})
                first = frames.stop
            return
        arrays = compute(np.stack([waveform.result() for waveform in read]))
        frames = range(encoder.num_frames(utterances[indices[0]].num_samples))
        for row, index in enumerate(indices):
            yield Stretch(index, frames, {key: array[row] for key, array in arrays.items()})

    lengths = [utterance.num_samples for utterance in utterances]
    ahead: deque[tuple[list[int], list[Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for indices in plan(lengths, encoder.batch_samples, longest):
            ahead.append((indices, waveforms_of(indices)))
            if len(ahead) > READERS:
                yield from computed(*ahead.popleft())
        for indices, read in ahead:
            yield from computed(indices, read)


def in_order[T](results: Iterable[tuple[int, T]]) -> Iterator[T]:
    """One result an utterance, in the order of the manifest; those that came early wait their turn."""
    waiting: dict[int, T] = {}
    turn = 0
    for index, value in results:
        waiting[index] = value
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1
