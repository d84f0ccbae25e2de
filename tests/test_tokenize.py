"""Units come out in manifest order, one pass for all, the same whatever else is tokenized."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from artifacts.device import computing_in
from artifacts.errors import InputError
from corpora.manifest import Utterance, read_manifest, write_manifest
from units.batches import WINDOW, Shard, encode, in_order, parse_shard, plan, read_speech, share, windows
from units.extract import extract
from units.features import FeatureReader, draw_frames
from units.mfcc import Mfcc
from units.quantizers import Assigner, Quantizer, load_quantizer, write_quantizer
from units.records import UnitSequence, read_units
from units.take import take_units
from units.tokenize import load_for, tokenize, tokenize_corpora

LEVELS = [[0, 1, 1], [2], [1, 1, 0], [2, 2, 2], [0]]
"""Loudness of each frame of five utterances."""


class Loudness:
    """A toy encoder: layer k is k times ten times the first sample of a frame of 320."""

    frame_rate_hz = 50.0
    num_layers = 2
    tap = "block"

    def __init__(self, batch_samples: int = 0) -> None:
        self.batch_samples = batch_samples
        self.batch_sizes: list[int] = []

    def dim(self, layer: int) -> int:
        return 1

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 320

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        self.batch_sizes.append(len(waveforms))
        frames = waveforms.reshape(len(waveforms), -1, 320)[:, :, :1]
        return {layer: 10 * layer * frames for layer in layers}


def nearest(layer: int, centroids: list[float]) -> Quantizer:
    tensors = {"centroids": np.array(centroids, dtype=np.float32)[:, None]}
    return Quantizer(Path("toy"), "kmeans", len(centroids), "toy", layer, 50.0, tensors)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    utterances = []
    for number, levels in enumerate(LEVELS):
        path = tmp_path / f"u{number}.wav"
        waveform = np.repeat(np.array(levels) / 10, 320)
        soundfile.write(path, waveform, 16000, subtype="FLOAT")
        utterances.append(Utterance(f"u{number}", path, len(waveform), "s"))
    write_manifest(tmp_path / "manifest.csv", utterances)
    return tmp_path / "manifest.csv"


@pytest.mark.parametrize("batch_samples", [0, 5000])
def test_each_quantizer_gets_its_layer_and_each_utterance_its_turn(manifest: Path, batch_samples: int) -> None:
    encoder = Loudness(batch_samples)
    # Layer 1 holds the levels, layer 2 twice the levels.
    quantizers = [nearest(1, [0, 1, 2]), nearest(2, [4, 1])]
    found = list(tokenize(encoder, [Assigner(quantizer) for quantizer in quantizers], read_manifest(manifest)))
    assert [first for first, _ in found] == [
        UnitSequence("u0", [0, 1], [1, 2]),
        UnitSequence("u1", [2], [1]),
        UnitSequence("u2", [1, 0], [2, 1]),
        UnitSequence("u3", [2], [3]),
        UnitSequence("u4", [0], [1]),
    ]
    assert [second for _, second in found] == [
        UnitSequence("u0", [1], [3]),
        UnitSequence("u1", [0], [1]),
        UnitSequence("u2", [1], [3]),
        UnitSequence("u3", [0], [3]),
        UnitSequence("u4", [1], [1]),
    ]
    assert encoder.batch_sizes == ([1] * 5 if batch_samples == 0 else [3, 2])


@given(st.lists(st.integers(1, 4), max_size=20), st.integers(0, 12), st.integers(0, 4), st.integers(1, 7))
def test_batches_hold_each_utterance_once_with_its_equals(
    lengths: list[int], samples: int, longest: int, window: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.batches.WINDOW", window)
        batches = list(plan(lengths, samples, longest))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[index] for index in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= samples
        assert len(batch) == 1 or lengths[batch[0]] <= longest
        assert batch[-1] // window == batch[0] // window
    assert list(in_order((index, index) for batch in batches for index in batch)) == list(range(len(lengths)))


def test_waveforms_of_a_batch_are_those_of_its_utterances(manifest: Path) -> None:
    utterances = read_manifest(manifest)
    seen: list[np.ndarray] = []

    def remember(waveforms: np.ndarray) -> dict[str, np.ndarray]:
        seen.extend(waveforms)
        return {"same": waveforms}

    for index, stretch, arrays in encode(Loudness(5000), utterances, remember):
        expected = np.repeat(np.float32(LEVELS[index]) / np.float32(10), 320)
        np.testing.assert_array_equal(arrays["same"], expected)
        assert stretch == range(len(LEVELS[index]))
    assert len(seen) == len(LEVELS)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 9))
def test_batches_are_the_same_however_many_shards_there_are(
    lengths: list[int], of: int, window: int, window_samples: int
) -> None:
    utterances = [Utterance(str(i), Path("a"), length, "s") for i, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.batches.WINDOW", window)
        patch.setattr("units.batches.WINDOW_SAMPLES", window_samples)
        shards = [share(utterances, Shard(number, of)) for number in range(of)]
        assert [utterance for shard in shards for utterance in shard] == utterances
        batches = [
            [int(shard[index].fileid) for index in batch]
            for shard in shards
            for batch in plan([utterance.num_samples for utterance in shard], 8)
        ]
        assert batches == list(plan(lengths, 8))
        if of == 1:
            assert len(shards[0]) == len(utterances)


def test_a_window_ends_at_so_many_utterances_or_at_so_much_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("units.batches.WINDOW", 3)
    monkeypatch.setattr("units.batches.WINDOW_SAMPLES", 10)
    found = list(windows([1, 1, 1, 4, 5, 9, 9, 10, 25, 5, 5, 1]))
    assert found == [range(3), range(3, 6), range(6, 8), range(8, 9), range(9, 11), range(11, 12)]


def test_shards_have_about_equally_much_speech() -> None:
    utterances = [Utterance(str(i), Path("a"), 1000 + i % 7, "s") for i in range(16 * WINDOW)]
    assert [len(share(utterances, Shard(number, 4))) // WINDOW for number in range(4)] == [4, 4, 4, 4]


def test_shards_of_long_recordings_have_about_equally_much_speech() -> None:
    """1,500 recordings of 5 to 25 minutes among eight: no shard is further from its eighth than by a window, 8 h."""
    minutes = np.random.default_rng(0).uniform(5, 25, 1500)
    utterances = [Utterance(str(i), Path("a"), int(length * 60 * 16000), "s") for i, length in enumerate(minutes)]
    shards = [share(utterances, Shard(number, 8)) for number in range(8)]
    assert [utterance for shard in shards for utterance in shard] == utterances
    hours = [sum(utterance.num_samples for utterance in shard) / 16000 / 3600 for shard in shards]
    np.testing.assert_allclose(hours, minutes.sum() / 60 / 8, atol=8.5)  # a window is full with its last recording


def test_recordings_that_are_cut_share_no_batch_though_they_are_equally_long(tmp_path: Path) -> None:
    """Chunks of 61 s, of which three have room in the 200 s of a batch on a GPU."""
    utterances = []
    for number in range(3):
        waveform = np.repeat(np.arange(61 * 50) // 50 % 2 == number % 2, 320) / 10.0
        soundfile.write(tmp_path / f"{number}.wav", waveform, 16000, subtype="FLOAT")
        utterances.append(Utterance(f"u{number}", tmp_path / f"{number}.wav", len(waveform), "s"))
    encoder = Loudness(200 * 16000)
    found = [sequence for (sequence,) in tokenize(encoder, [Assigner(nearest(1, [0, 1]))], utterances)]
    expected = [UnitSequence(f"u{number}", [0, 1] * 30 + [0], [50] * 61) for number in (0, 1, 2)]
    expected[0].units[:] = expected[2].units[:] = [1, 0] * 30 + [1]
    assert found == expected
    assert set(encoder.batch_sizes) == {1}


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/2", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected NUMBER/OF"):
        parse_shard(text)


def test_an_utterance_too_short_for_a_frame_is_refused_before_any_work(manifest: Path) -> None:
    with manifest.open("a") as file:
        file.write("short,short.wav,399,s\n")
    with pytest.raises(InputError, match=r"manifest\.csv: u1 has 320 samples \(0\.020 s\), expected enough for one"):
        read_speech(manifest, Mfcc())


@pytest.fixture
def mfcc(tmp_path: Path) -> Path:
    config = {"family": "mfcc", "frame_rate_hz": 50.0, "tap": "mfcc", "num_layers": 1}
    (tmp_path / "mfcc").mkdir()
    (tmp_path / "mfcc" / "config.json").write_text(json.dumps(config))
    return tmp_path / "mfcc"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Noise of four lengths, two of them equal."""
    draw = np.random.default_rng(0)
    utterances = []
    for number, num_samples in enumerate([1500, 4000, 1500, 9000]):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, draw.normal(0, 0.1, num_samples), 16000)
        utterances.append(Utterance(f"n{number}", path, num_samples, "s"))
    write_manifest(tmp_path / "speech" / "manifest.csv", utterances)
    return tmp_path / "speech" / "manifest.csv"


@pytest.fixture
def quantizer(tmp_path: Path) -> Path:
    config = {"kind": "kmeans", "num_units": 7, "encoder": "mfcc", "layer": 1, "frame_rate_hz": 50.0}
    centroids = np.random.default_rng(1).normal(0, 5, (7, 39)).astype(np.float32)
    write_quantizer(tmp_path / "kmeans", config, {"centroids": centroids})
    return tmp_path / "kmeans"


def run(module: str, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *map(str, options)], capture_output=True, text=True)


def test_features_on_disk_are_those_of_the_encoder(mfcc: Path, speech: Path, tmp_path: Path) -> None:
    extract(mfcc, [1], speech, tmp_path / "features", dtype="float32")
    reader = FeatureReader(tmp_path / "features" / "L01")
    assert {key: reader.config[key] for key in ("encoder", "layer", "tap", "frame_rate_hz", "dim")} == {
        "encoder": "mfcc",
        "layer": 1,
        "tap": "mfcc",
        "frame_rate_hz": 50.0,
        "dim": 39,
    }
    for utterance in read_manifest(speech):
        waveform = soundfile.read(utterance.path, dtype="float32")[0]
        np.testing.assert_array_equal(reader.frames(utterance.fileid), Mfcc().features(waveform[None], [1])[1][0])


def test_the_command_writes_the_units_of_several_corpora(
    mfcc: Path, speech: Path, quantizer: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part" / "manifest.csv"
    write_manifest(part, read_manifest(speech)[2:3])
    options = ["--encoder", mfcc, "--quantizer", quantizer, "--manifest", speech, part]
    done = run("units.tokenize", *options, "--output", tmp_path / "units")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "units" / "mfcc-L01-kmeans"
    everything, alone = (list(read_units(folder / f"{corpus}.jsonl")) for corpus in ("speech", "part"))
    assert [sequence.fileid for sequence in everything] == ["n0", "n1", "n2", "n3"]
    assert [sequence.num_frames for sequence in everything] == [4, 12, 4, 27]
    assert alone == everything[2:3]
    encoder = load_for(mfcc, [load_quantizer(quantizer)], "cpu")
    expected = [s for (s,) in tokenize(encoder, [Assigner(load_quantizer(quantizer))], read_manifest(speech))]
    assert everything == expected


def test_a_second_pass_adds_what_is_missing_and_renews_what_was_made_from_something_else(
    mfcc: Path, speech: Path, quantizer: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    config = json.loads((quantizer / "config.json").read_text())
    centroids = np.random.default_rng(2).normal(0, 5, (7, 39)).astype(np.float32)
    write_quantizer(other, config, {"centroids": centroids})
    output = tmp_path / "units"
    first, second = (output / f"mfcc-L01-{name}" / "speech.jsonl" for name in ("kmeans", "other"))

    def make(*folders: Path) -> None:
        tokenize_corpora(mfcc, [load_quantizer(folder) for folder in folders], [speech], output)

    make(quantizer)
    first.write_text("made before\n")
    make(quantizer, other)
    assert first.read_text() == "made before\n"
    assert len(list(read_units(second))) == 4
    write_quantizer(quantizer, config, {"centroids": centroids})
    make(quantizer, other)
    assert first.read_text() == second.read_text()


def test_units_are_the_same_however_many_jobs_make_them(
    mfcc: Path, speech: Path, quantizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("units.batches.WINDOW", 1)
    for shards in (1, 3, 5):
        for number in range(shards):
            folder = tmp_path / f"of{shards}" / str(number)
            tokenize_corpora(mfcc, [load_quantizer(quantizer)], [speech], folder, Shard(number, shards))
        pieces = [tmp_path / f"of{shards}" / str(n) / "mfcc-L01-kmeans" / "speech.jsonl" for n in range(shards)]
        take_units(pieces, speech, tmp_path / f"{shards}.jsonl")
    whole = (tmp_path / "1.jsonl").read_bytes()
    assert whole.count(b"\n") == 4
    assert (tmp_path / "3.jsonl").read_bytes() == (tmp_path / "5.jsonl").read_bytes() == whole
    with pytest.raises(InputError, match=r"jsonl: found utterance n\d, expected n0: the order of"):
        take_units(pieces[::-1], speech, tmp_path / "wrong.jsonl")
    with pytest.raises(InputError, match=r"ends before utterance n3, expected all of .*manifest\.csv"):
        take_units(pieces[:-2], speech, tmp_path / "wrong.jsonl")
    assert not (tmp_path / "wrong.jsonl").exists()


def test_frames_are_sampled_as_they_are_extracted(mfcc: Path, speech: Path, tmp_path: Path) -> None:
    extract(mfcc, [1], speech, tmp_path / "all", dtype="float32")
    extract(mfcc, [1], speech, tmp_path / "few", dtype="float32", sample=20, seed=3)
    every, few = (FeatureReader(tmp_path / name / "L01") for name in ("all", "few"))
    drawn = draw_frames([4, 12, 4, 27], 20, seed=3)
    assert few.total_frames == 20 == sum(map(len, drawn))
    assert few.config["sampled_from"] == 47
    for fileid, positions in zip(every.fileids, drawn, strict=True):
        assert sorted(set(positions)) == list(positions)
        if len(positions):
            np.testing.assert_array_equal(few.frames(fileid), every.frames(fileid)[positions])


def test_every_frame_is_as_likely_to_be_drawn() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        drawn = draw_frames([3, 0, 6, 1], 4, seed)
        counts[np.concatenate([drawn[0], drawn[2] + 3, drawn[3] + 9])] += 1
    assert counts.sum() == 8000
    assert np.abs(counts - 800).max() < 5 * np.sqrt(2000 * 0.4 * 0.6)


def test_an_encoder_is_described_on_the_command_line(tmp_path: Path) -> None:
    done = run("units.encoders", "describe", "--settings", '{"family": "mfcc"}', "--output", tmp_path / "mfcc")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "mfcc" / "config.json").read_text())["family"] == "mfcc"
    done = run("units.encoders", "describe", "--settings", '{"family": "phones"}', "--output", tmp_path / "mfcc")
    assert done.returncode == 2
    assert "family: found \"phones\", expected 'hub', 'custom' or 'mfcc'" in done.stderr


def test_distances_to_centroids_stay_float32(tmp_path: Path) -> None:
    """bfloat16 has 256 and 258, nothing between: there 256.9 would be as near to both, and the first be taken."""
    config = {"kind": "kmeans", "num_units": 2, "encoder": "mfcc", "layer": 1, "frame_rate_hz": 50.0}
    write_quantizer(tmp_path / "kmeans", config, {"centroids": np.array([[256], [257]], dtype=np.float32)})
    quantizer, frames = load_quantizer(tmp_path / "kmeans"), np.array([[256.9], [256.1]], dtype=np.float32)
    with computing_in("bfloat16", "cpu"):
        np.testing.assert_array_equal(Assigner(quantizer)(frames), [1, 0])


def test_a_quantizer_of_another_encoder_or_width_is_refused(mfcc: Path, tmp_path: Path) -> None:
    config = {"kind": "kmeans", "num_units": 7, "encoder": "hubert", "layer": 1, "frame_rate_hz": 50.0}
    write_quantizer(tmp_path / "other", config, {"centroids": np.zeros((7, 39), dtype=np.float32)})
    with pytest.raises(InputError, match=r"config\.json: encoder: found 'hubert', expected 'mfcc'"):
        load_for(mfcc, [load_quantizer(tmp_path / "other")], "cpu")
    narrow = {"centroids": np.zeros((7, 13), dtype=np.float32)}
    write_quantizer(tmp_path / "other", config | {"encoder": "mfcc"}, narrow)
    with pytest.raises(InputError, match="found centroids of dimension 13, expected 39"):
        load_for(mfcc, [load_quantizer(tmp_path / "other")], "cpu")
    write_quantizer(tmp_path / "other", config | {"encoder": "mfcc", "layer": 2}, narrow)
    with pytest.raises(InputError, match="found layer 2, expected 1 to 1"):
        load_for(mfcc, [load_quantizer(tmp_path / "other")], "cpu")


def test_a_missing_audio_file_leaves_no_output(mfcc: Path, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "3.flac").unlink()
    with pytest.raises(InputError, match=r"3\.flac: no such file"):
        extract(mfcc, [1], speech, tmp_path / "features")
    assert not list((tmp_path / "features").iterdir())
