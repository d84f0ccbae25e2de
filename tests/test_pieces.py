"""Long recordings are cut at their quietest places, and their frames stay as many and where they were."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.files import write_json
from corpora.manifest import Utterance, write_manifest
from units.batches import encode
from units.extract import extract
from units.features import FeatureReader, draw_frames
from units.mfcc import Mfcc
from units.pieces import Framing, framing_of, read_pieces

RATE = 16000


def recording(folder: Path, waveform: np.ndarray) -> Utterance:
    """A recording of these samples."""
    path = folder / "long.wav"
    soundfile.write(path, waveform, RATE, subtype="FLOAT")
    return Utterance("long", path, len(waveform), "s")


@pytest.mark.parametrize(("hop", "window", "rate"), [(320, 400, 50.0), (320, 320, 50.0), (160, 400, 100.0)])
def test_the_framing_is_read_off_the_numbers_of_frames(hop: int, window: int, rate: float) -> None:
    assert framing_of(lambda n: max(0, (n - window) // hop + 1), rate) == Framing(hop, window)


def test_frames_that_do_not_lie_at_equal_distances_are_not_cut() -> None:
    assert framing_of(lambda n: 1500 * (n // 480000) + 1, 50.0) is None
    assert framing_of(lambda n: 0, 50.0) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(400, 40000), st.floats(0.05, 1.5))
def test_pieces_have_all_frames_once(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, longest: float
) -> None:
    waveform = np.random.default_rng(num_samples).normal(0, 0.1, num_samples).astype(np.float32)
    utterance = recording(tmp_path_factory.mktemp("long"), waveform)
    pieces = list(read_pieces(utterance, Framing(320, 400), longest))
    frames = [piece[start : start + 400] for piece in pieces for start in range(0, len(piece) - 399, 320)]
    expected = [waveform[start : start + 400] for start in range(0, num_samples - 399, 320)]
    assert len(frames) == len(expected) == Mfcc().num_frames(num_samples)
    np.testing.assert_array_equal(frames, expected)
    assert max(len(piece) for piece in pieces) <= max(longest * RATE, 720)


def test_a_pause_is_where_a_recording_is_cut(tmp_path: Path) -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32)
    for second in (1.5, 3.0, 4.9, 6.1, 8.0):
        waveform[int(second * RATE) : int((second + 0.1) * RATE)] *= 0.001
    pieces = list(read_pieces(recording(tmp_path, waveform), Framing(320, 400), 2.0))
    ends = np.cumsum([(len(piece) - 80) / RATE for piece in pieces])
    # The last piece that can end at a pause does; in between 1 to 2 s pass, pause or not.
    assert 1.5 <= ends[0] <= 1.6
    assert 3.0 <= ends[1] <= 3.1
    assert 4.9 <= ends[2] <= 5.0
    assert 6.1 <= ends[3] <= 6.2


class Counting:
    """A toy encoder: the mean of each window, and how many samples it was given at once."""

    frame_rate_hz = 50.0
    num_layers = 1
    tap = "block"
    batch_samples = 0

    def __init__(self) -> None:
        self.longest = 0

    def dim(self, layer: int) -> int:
        return 1

    def num_frames(self, num_samples: int) -> int:
        return Mfcc().num_frames(num_samples)

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        self.longest = max(self.longest, waveforms.shape[1])
        windows = np.lib.stride_tricks.sliding_window_view(waveforms, 400, axis=1)[:, ::320]
        return dict.fromkeys(layers, windows.mean(axis=-1, keepdims=True))


def test_a_long_recording_goes_through_the_encoder_in_pieces(tmp_path: Path) -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
    encoder = Counting()
    utterance = recording(tmp_path, waveform)
    found = list(encode(encoder, [utterance], lambda w: encoder.features(w, [1]), longest_s=1.0))
    assert encoder.longest <= RATE
    assert [stretch.utterance for stretch in found] == [0] * len(found)
    assert [frame for stretch in found for frame in stretch.frames] == list(range(Mfcc().num_frames(5 * RATE)))
    frames = [stretch.arrays[1] for stretch in found]
    assert [len(array) for array in frames] == [len(stretch.frames) for stretch in found]
    np.testing.assert_array_equal(np.concatenate(frames), Counting().features(waveform[None], [1])[1][0])


class Wide(Counting):
    """The means of its windows, 512 times over, each its own multiple."""

    def dim(self, layer: int) -> int:
        return 512

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        (means,) = super().features(waveforms, layers[:1]).values()
        return {layer: layer * means * np.arange(1, 513, dtype=np.float32) for layer in layers}


@pytest.mark.parametrize("sample", [None, 1000])
def test_a_long_recording_takes_no_more_memory_than_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int | None
) -> None:
    """Features of 3 minutes and of 12, in pieces of 60 s at most: 3 layers of 512 are 18 MB a minute."""
    encoder = Wide()
    monkeypatch.setattr("units.extract.load", lambda *_: encoder)
    write_json(tmp_path / "config.json", {"family": "custom"})
    peaks = []
    for minutes in (3, 12):
        waveform = np.random.default_rng(minutes).normal(0, 0.1, minutes * 60 * RATE).astype(np.float32)
        utterance = recording(tmp_path, waveform)
        manifest = tmp_path / str(minutes) / "manifest.csv"
        write_manifest(manifest, [utterance])
        tracemalloc.start()
        extract(tmp_path, [1, 2, 3], manifest, tmp_path / f"of-{minutes}", dtype="float32", sample=sample)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        for layer, frames in Wide().features(waveform[None], [1, 2, 3]).items():
            found = FeatureReader(tmp_path / f"of-{minutes}" / f"L{layer:02d}").frames("long")
            (positions,) = [slice(None)] if sample is None else draw_frames([frames.shape[1]], sample, 0)
            np.testing.assert_array_equal(found, frames[0, positions])
    assert encoder.longest <= 60 * RATE
    assert peaks[1] < 1.2 * peaks[0]
