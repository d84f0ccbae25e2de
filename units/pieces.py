"""Recordings of many minutes, cut into pieces that a model can hold.

A recording of more than `LONGEST_S` is cut as it is read: each piece ends at the quietest frame of
its second half, so at a pause where there is one, and has at most `LONGEST_S`. Frames are those of
the whole recording, as many and at the same times: a piece begins at the first sample of its first
frame and ends with the last sample of its last, so that neighbours share the samples by which
windows overlap (80, 5 ms, for the convolutional models), and no frame is computed twice or left out.
What a frame hears ends at its piece.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from corpora.audio import SAMPLE_RATE_HZ, read_crop
from corpora.manifest import Utterance

LONGEST_S = 60
"""Seconds of the longest piece; the longest utterance of LibriSpeech has 35."""


class Framing(NamedTuple):
    """How frames lie on samples: frame i covers ``[i * hop, i * hop + window)``."""

    hop: int
    """Samples from a frame to the next."""
    window: int
    """Samples that a frame covers."""

    def samples(self, num_frames: int) -> int:
        """Fewest samples that have so many frames."""
        return (num_frames - 1) * self.hop + self.window


def framing_of(num_frames: Callable[[int], int], frame_rate_hz: float) -> Framing | None:
    """How an encoder's frames lie; None where they are not at equal distances, and nothing can be cut.

    Args:
        num_frames: Frames of an utterance of so many samples, see `units.encoders.Encoder.num_frames`.
    """
    hop = round(SAMPLE_RATE_HZ / frame_rate_hz)
    window = next((n for n in range(1, 10 * hop) if num_frames(n)), 0)
    around = [window + k * hop + shift for k in (1, 2, 100) for shift in (-1, 0)]
    regular = window > 0 and all(num_frames(n) == (n - window) // hop + 1 for n in around)
    return Framing(hop, window) if regular else None


def read_pieces(utterance: Utterance, framing: Framing, longest_s: float = LONGEST_S) -> Iterator[np.ndarray]:
    """Waveforms of a recording's pieces, float32 (samples,), one at a time in memory.

    Raises:
        InputError: As `corpora.audio.read_crop`.
    """
    hop, window = framing
    num_frames = (utterance.num_samples - window) // hop + 1
    most = max(2, (round(longest_s * SAMPLE_RATE_HZ) - window) // hop + 1)
    first = 0
    while first < num_frames:
        count = min(most, num_frames - first)
        waveform = read_crop(utterance, first * hop, framing.samples(count))
        if first + count < num_frames:
            count = _quietest(waveform, framing, count // 2, count)
        yield waveform[: framing.samples(count)]
        first += count


def _quietest(waveform: np.ndarray, framing: Framing, first: int, last: int) -> int:
    """The frame of `first` + 1 to `last` that begins in the quietest hop, so that the cut falls there."""
    hops = waveform[first * framing.hop : last * framing.hop].reshape(-1, framing.hop)
    energy = np.square(hops, dtype=np.float64).sum(axis=1)
    return first + 1 + int(energy.argmin())
