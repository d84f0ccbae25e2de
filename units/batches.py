"""Batches of equal length: the only ones that leave every model's features as they are.

Padding changes the features of models whose first convolution is followed by a group norm (HuBERT
Base) and of data2vec, with or without an attention mask. So utterances share a batch only where they have the same
number of samples. On a CPU each goes alone, and its features then do not depend, to the last bit,
on what else the corpus holds; on a GPU they agree to 1e-6.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from artifacts.errors import InputError
from corpora.audio import SAMPLE_RATE_HZ, read_waveform
from corpora.manifest import Utterance, read_manifest
from units.encoders import Encoder

WINDOW = 8192
"""Consecutive utterances among which equal lengths are looked for: what has to be put back in order."""
READERS = 4
"""Audio files read at the same time, ahead of the model."""


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


def read_batches(utterances: Sequence[Utterance], batch_samples: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Indices and waveforms, float32 (batch, samples), of each batch; a few are read ahead.

    Raises:
        InputError: An audio file that cannot be read, as `corpora.audio.read_waveform`.
    """
    ahead: deque[tuple[list[int], list[Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for indices in plan([utterance.num_samples for utterance in utterances], batch_samples):
            ahead.append((indices, [pool.submit(read_waveform, utterances[index]) for index in indices]))
            if len(ahead) > READERS:
                yield _gather(*ahead.popleft())
        while ahead:
            yield _gather(*ahead.popleft())


def _gather(indices: list[int], waveforms: list[Future[np.ndarray]]) -> tuple[list[int], np.ndarray]:
    return indices, np.stack([waveform.result() for waveform in waveforms])


def in_order[T](results: Iterable[tuple[Sequence[int], Sequence[T]]]) -> Iterator[T]:
    """One result an utterance, in the order of the manifest; those that came early wait their turn."""
    waiting: dict[int, T] = {}
    turn = 0
    for indices, values in results:
        waiting.update(zip(indices, values, strict=True))
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1
