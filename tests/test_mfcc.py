"""MFCC are Kaldi's, at the encoders' frame rate, with the deltas of the HTK book."""

import math
import subprocess
import sys

import numpy as np
import pytest

from units.mfcc import Mfcc, cepstra, deltas, with_deltas


def slow_cepstra(waveform: np.ndarray) -> np.ndarray:
    """Kaldi's MFCC spelt out in float64: 23 mel bins from 20 Hz, povey window, lifter 22."""

    def mel(hz: float) -> float:
        return 1127 * math.log(1 + hz / 700)

    window = np.array([(0.5 - 0.5 * math.cos(2 * math.pi * n / 399)) ** 0.85 for n in range(400)])
    edges = np.linspace(mel(20), mel(8000), 25)
    frames = []
    for start in range(0, len(waveform) - 399, 320):
        frame = waveform[start : start + 400].astype(np.float64) * 32768
        frame = frame - frame.mean()
        frame = np.array([frame[n] - 0.97 * frame[max(n - 1, 0)] for n in range(400)]) * window
        power = np.abs(np.fft.rfft(frame, 512)) ** 2
        energies = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for k in range(256):
                at = mel(k * 16000 / 512)
                energy += power[k] * max(0.0, min((at - left) / (centre - left), (right - at) / (right - centre)))
            energies.append(math.log(energy))
        row = []
        for k in range(13):
            total = sum(e * math.cos(math.pi * k * (b + 0.5) / 23) for b, e in enumerate(energies))
            lifter = 1 + 11 * math.sin(math.pi * k / 22)
            row.append(total * math.sqrt((1 if k == 0 else 2) / 23) * lifter)
        frames.append(row)
    return np.array(frames)


def slow_deltas(frames: np.ndarray) -> np.ndarray:
    """The regression of the HTK book, term by term."""
    last = len(frames) - 1
    rows = []
    for t in range(len(frames)):
        slope = np.zeros(frames.shape[1])
        for n in (1, 2):
            slope += n * (frames[min(t + n, last)] - frames[max(t - n, 0)])
        rows.append(slope / (2 * (1 + 4)))
    return np.array(rows)


@pytest.fixture
def waveform() -> np.ndarray:
    draw = np.random.default_rng(0)
    time_s = np.arange(3000) / 16000
    return (0.3 * np.sin(2 * np.pi * 300 * time_s) + draw.normal(0, 0.02, 3000)).astype(np.float32)


def test_coefficients_are_those_of_the_definition(waveform: np.ndarray) -> None:
    np.testing.assert_allclose(cepstra(waveform), slow_cepstra(waveform), atol=0.02)


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_deltas_are_the_regression_of_the_htk_book(length: int) -> None:
    frames = np.random.default_rng(length).normal(size=(length, 4))
    np.testing.assert_allclose(deltas(frames), slow_deltas(frames), atol=1e-12)
    both = np.hstack([frames, slow_deltas(frames), slow_deltas(slow_deltas(frames))])
    np.testing.assert_allclose(with_deltas(frames), both, atol=1e-12)


def test_frames_are_those_of_the_convolutional_encoders() -> None:
    mfcc = Mfcc()
    for num_samples, num_frames in {399: 0, 400: 1, 719: 1, 720: 2, 16000: 49}.items():
        assert mfcc.num_frames(num_samples) == num_frames
        if num_frames:
            frames = mfcc.features(np.full((2, num_samples), 0.1, dtype=np.float32), [1])[1]
            assert frames.shape == (2, num_frames, 39)
            assert frames.dtype == np.float32
            assert np.isfinite(frames).all()


def test_silence_has_finite_coefficients() -> None:
    assert np.isfinite(Mfcc().features(np.zeros((1, 16000), dtype=np.float32), [1])[1]).all()


def test_mfcc_do_without_torch() -> None:
    code = "import sys, units.extract, units.tokenize, units.mfcc; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
