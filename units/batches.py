"""Batches of equal length: the only ones that leave every model's features as they are.

Padding changes the features of models whose first convolution is followed by a group norm (HuBERT
Base) and of data2vec, with or without an attention mask. So utterances share a batch only where they have the same
number of samples. On a CPU each goes alone, and its features then do not depend, to the last bit,
on what else the corpus holds; on a GPU they agree to 1e-6.
"""

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
"""Consecutive utterances among which equal lengths are looked for, and which no shard parts."""
READERS = 4
"""Audio files read at the same time, ahead of the model."""


class Shard(NamedTuple):
    """One of several equal parts of the work."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Shard()


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


def share(utterances: Sequence[Utterance], shard: Shard) -> Sequence[Utterance]:
    """A shard's consecutive utterances: whole windows, about as much speech as any other shard's.

    Batches lie within windows, so that they are the same however many shards there are.
    """
    starts = range(0, len(utterances), WINDOW)
    samples = [sum(u.num_samples for u in utterances[start : start + WINDOW]) for start in starts]
    middles = np.cumsum(samples) - np.array(samples) / 2
    owners = (middles * shard.of / max(1, sum(samples))).astype(int)
    mine = np.flatnonzero(owners == shard.number)
    return utterances[starts[mine[0]] : starts[mine[-1]] + WINDOW] if len(mine) else []


def plan(lengths: Sequence[int], batch_samples: int, window: int = WINDOW) -> Iterator[list[int]]:
    """Indices of the utterances of each batch, batches in the order of their first utterance.

    Args:
        lengths: Samples of each utterance.
        batch_samples: Most samples in a batch of several; an utterance that has more goes alone.
    """
    for first in range(0, len(lengths), window):
        batches: list[list[int]] = []
        open_batch: dict[int, list[int]] = defaultdict(list)
        for index in range(first, min(first + window, len(lengths))):
            length = lengths[index]
            batch = open_batch[length]
            if not batch or (len(batch) + 1) * length > batch_samples:
                batch = open_batch[length] = []
                batches.append(batch)
            batch.append(index)
        yield from batches


def encode[K](
    encoder: Encoder,
    utterances: Sequence[Utterance],
    compute: Callable[[np.ndarray], dict[K, np.ndarray]],
    longest_s: float = LONGEST_S,
) -> Iterator[tuple[list[int], list[dict[K, np.ndarray]]]]:
    """What `compute` makes of waveforms, for the indices of each batch: a few batches are read ahead.

    Args:
        compute: From waveforms (batch, samples) to arrays (batch, frames, ...).
        longest_s: Recordings of more seconds are cut (`units.pieces`), and their arrays joined.

    Returns:
        For each batch its indices, and for each of them its arrays (frames, ...).

    Raises:
        InputError: An audio file that cannot be read, as `corpora.audio.read_waveform`.
    """
    framing = framing_of(encoder.num_frames, encoder.frame_rate_hz)
    longest = longest_s * SAMPLE_RATE_HZ

    def waveforms_of(indices: list[int]) -> list[Future[np.ndarray]]:
        first = utterances[indices[0]]
        if framing and first.num_samples > longest:
            return []  # read piece by piece, when its turn comes
        return [pool.submit(read_waveform, utterances[index]) for index in indices]

    def computed(indices: list[int], read: list[Future[np.ndarray]]) -> list[dict[K, np.ndarray]]:
        if framing and not read:
            pieces = [compute(piece[None]) for piece in read_pieces(utterances[indices[0]], framing, longest_s)]
            return [{key: np.concatenate([piece[key][0] for piece in pieces]) for key in pieces[0]}]
        arrays = compute(np.stack([waveform.result() for waveform in read]))
        return [{key: array[row] for key, array in arrays.items()} for row in range(len(indices))]

    ahead: deque[tuple[list[int], list[Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for indices in plan([utterance.num_samples for utterance in utterances], encoder.batch_samples):
            ahead.append((indices, waveforms_of(indices)))
            if len(ahead) > READERS:
                indices, read = ahead.popleft()
                yield indices, computed(indices, read)
        for indices, read in ahead:
            yield indices, computed(indices, read)


def in_order[T](results: Iterable[tuple[Sequence[int], Sequence[T]]]) -> Iterator[T]:
    """One result an utterance, in the order of the manifest; those that came early wait their turn."""
    waiting: dict[int, T] = {}
    turn = 0
    for indices, values in results:
        waiting.update(zip(indices, values, strict=True))
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1
