"""MFCC: 13 coefficients with deltas and delta-deltas at 50 Hz, the baseline without learning.

Kaldi's coefficients as HuBERT's first targets had them (C0 and not the energy, no dither), at the
encoders' rate: windows of 25 ms every 20 ms, so that the frames are those of the convolutional
models. No mean is subtracted: an utterance's frames do not depend on its length.
"""

from collections.abc import Sequence

import kaldi_native_fbank as knf
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WINDOW_SAMPLES = 400
SHIFT_SAMPLES = 320
NUM_CEPSTRA = 13
KALDI_SCALE = 32768.0
"""Kaldi reads 16-bit samples as they are; in [-1, 1] quiet frames would fall under its floor."""


class Mfcc:
    """The MFCC as an encoder of one layer; see `units.encoders.Encoder`."""

    num_layers = 1
    frame_rate_hz = 50.0
    tap = "mfcc"
    batch_samples = 0

    def dim(self, layer: int) -> int:
        """39: coefficients, deltas, delta-deltas."""
        return 3 * NUM_CEPSTRA

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance: whole windows only."""
        return max(0, (num_samples - WINDOW_SAMPLES) // SHIFT_SAMPLES + 1)

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The 39 features of each waveform, float32 (batch, frames, 39), under layer 1."""
        frames = np.stack([with_deltas(cepstra(waveform)) for waveform in waveforms])
        return dict.fromkeys(layers, frames)


def cepstra(waveform: np.ndarray) -> np.ndarray:
    """Kaldi's MFCC of samples in [-1, 1]: float32 (frames, 13)."""
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.frame_length_ms = 25
    options.frame_opts.frame_shift_ms = 20
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.num_ceps = NUM_CEPSTRA
    options.use_energy = False
    computer = knf.OnlineMfcc(options)
    computer.accept_waveform(16000, (waveform * KALDI_SCALE).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(frame) for frame in range(computer.num_frames_ready)])


def with_deltas(frames: np.ndarray) -> np.ndarray:
    """Frames (time, dim) with their deltas and delta-deltas: (time, 3 dim)."""
    first = deltas(frames)
    return np.concatenate([frames, first, deltas(first)], axis=1)


def deltas(frames: np.ndarray) -> np.ndarray:
    """Slope over two frames on either side, the first and last frame repeated (HTK book, section 5.9).

    d_t = sum_n n (c_{t+n} - c_{t-n}) / (2 sum_n n^2), n = 1, 2: the denominator is 10. (time, dim) to the same.
    """
    before_2, before_1, _, after_1, after_2 = sliding_window_view(
        np.pad(frames, ((2, 2), (0, 0)), mode="edge"), len(frames), axis=0
    ).swapaxes(1, 2)
    slopes: np.ndarray = (after_1 - before_1 + 2 * (after_2 - before_2)) / 10
    return slopes
