"""K-means finds what is there, from a bounded sample, and the same each time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import InputError
from units.features import FeatureReader, FeatureWriter
from units.kmeans import fit, sample_frames
from units.quantizers import assign, load_quantizer
from units.settings import KmeansQuantizer

CENTRES = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=np.float32)


def settings(num_units: int = 4, **keys: int) -> KmeansQuantizer:
    return KmeansQuantizer(kind="kmeans", num_units=num_units, fit="valid", **keys)  # type: ignore[arg-type]


def blobs(num_frames: int = 400) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.1, (num_frames, 2))
    return (np.tile(CENTRES, (num_frames // 4, 1)) + noise).astype(np.float32)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A feature set of 60 utterances whose frame n holds n, -n."""
    config = {"encoder": "toy", "layer": 6, "tap": "block", "frame_rate_hz": 50.0, "provenance": {}}
    first = 0
    with FeatureWriter(tmp_path / "features", config, "float32") as writer:
        for utterance in range(60):
            numbers = np.arange(first, first + 5 + utterance % 4)
            writer.write(f"u{utterance}", np.stack([numbers, -numbers], axis=1))
            first += len(numbers)
    return tmp_path / "features"


def test_separated_blobs_are_recovered() -> None:
    clusters = fit(blobs(), settings(), seed=0)
    found = clusters.centroids[np.lexsort(clusters.centroids.round().T)]
    np.testing.assert_allclose(found, CENTRES, atol=0.05)
    assert clusters.usage.tolist() == [100] * 4
    distances = ((blobs()[:, None] - clusters.centroids) ** 2).sum(-1).min(1)
    assert clusters.inertia == pytest.approx(distances.sum(), rel=1e-3)


def test_the_seed_decides_the_start() -> None:
    noise = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    once, again, other = (fit(noise, settings(20, iterations=3, restarts=1), seed).centroids for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_as_many_units_as_frames_are_the_frames() -> None:
    frames = blobs(8)
    clusters = fit(frames, settings(8), seed=0)
    assert clusters.usage.tolist() == [1] * 8
    assert clusters.inertia == pytest.approx(0, abs=1e-3)


def test_identical_frames_leave_units_unused_but_finite() -> None:
    clusters = fit(np.ones((50, 3), dtype=np.float32), settings(4), seed=0)
    assert np.isfinite(clusters.centroids).all()
    assert clusters.usage.sum() == 50


def test_fewer_frames_than_units_are_refused() -> None:
    with pytest.raises(InputError, match="num_units: found 9, expected at most the 8 frames"):
        fit(blobs(8), settings(9), seed=0)


def test_a_sample_is_bounded_drawn_once_each_and_from_everywhere(features: Path) -> None:
    reader = FeatureReader(features)
    frames = sample_frames(reader, 100, seed=0)
    assert frames.shape == (100, 2)
    np.testing.assert_array_equal(frames[:, 0], -frames[:, 1])
    assert len(set(frames[:, 0])) == 100
    assert frames[:, 0].min() < 30
    assert frames[:, 0].max() > reader.total_frames - 30
    np.testing.assert_array_equal(frames, sample_frames(reader, 100, seed=0))
    assert not np.array_equal(frames, sample_frames(reader, 100, seed=1))


def test_a_small_feature_set_is_taken_whole(features: Path) -> None:
    reader = FeatureReader(features)
    frames = sample_frames(reader, 10**6, seed=0)
    np.testing.assert_array_equal(frames[:, 0], np.arange(reader.total_frames))


def run_kmeans(features: Path, output: Path, num_units: int, threads: int = 1) -> subprocess.CompletedProcess[str]:
    given = {"kind": "kmeans", "num_units": num_units, "fit": "valid", "max_frames": 300}
    options = ["--features", features, "--settings", json.dumps(given), "--seed", "0", "--output", output]
    return subprocess.run(
        [sys.executable, "-m", "units.kmeans", *map(str, options)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )


def test_the_number_of_threads_does_not_change_a_byte(features: Path, tmp_path: Path) -> None:
    for threads in (1, 2):
        done = run_kmeans(features, tmp_path / f"threads{threads}", 16, threads)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr + done.stdout
    one, two = (tmp_path / f"threads{threads}" for threads in (1, 2))
    assert (one / "quantizer.safetensors").read_bytes() == (two / "quantizer.safetensors").read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) | {"provenance": {}} for folder in (one, two)]
    assert configs[0] == configs[1]


def test_a_quantizer_says_what_it_is_and_assigns_the_nearest_centroid(features: Path, tmp_path: Path) -> None:
    assert run_kmeans(features, tmp_path / "kmeans", 16).returncode == 0
    config = json.loads((tmp_path / "kmeans" / "config.json").read_text())
    assert {key: config[key] for key in ("kind", "num_units", "encoder", "layer", "tap", "frame_rate_hz")} == {
        "kind": "kmeans",
        "num_units": 16,
        "encoder": "toy",
        "layer": 6,
        "tap": "block",
        "frame_rate_hz": 50.0,
    }
    assert sum(config["usage"]) == config["num_frames"] == 300
    quantizer = load_quantizer(tmp_path / "kmeans")
    frames = np.random.default_rng(0).normal(100, 50, (2, 30, 2)).astype(np.float32)
    distances = ((frames[:, :, None] - quantizer.tensors["centroids"]) ** 2).sum(-1)
    np.testing.assert_array_equal(assign(quantizer, frames), distances.argmin(-1))
    with pytest.raises(InputError, match="expects frames of dimension 2, found 3"):
        assign(quantizer, np.zeros((5, 3), dtype=np.float32))


def test_a_feature_set_too_small_ends_the_command_with_one_line(features: Path, tmp_path: Path) -> None:
    done = run_kmeans(features, tmp_path / "kmeans", 5000)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "features: found 390 frames, expected at least num_units = 5000" in done.stderr
    assert not (tmp_path / "kmeans").exists()


def test_a_damaged_quantizer_is_named(features: Path, tmp_path: Path) -> None:
    run_kmeans(features, tmp_path / "kmeans", 16)
    config = tmp_path / "kmeans" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"num_units": 16', '"num_units": 17', 1))
    with pytest.raises(InputError, match=r"centroids: found \(16, 2\), expected 17 rows"):
        load_quantizer(tmp_path / "kmeans")
    config.write_text(text.replace('"kmeans"', '"means"', 1))
    with pytest.raises(InputError, match="kind: found 'means', expected one of kmeans, codebook"):
        load_quantizer(tmp_path / "kmeans")
    config.write_text(text)
    weights = tmp_path / "kmeans" / "quantizer.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"quantizer\.safetensors: not a whole safetensors file"):
        load_quantizer(tmp_path / "kmeans")
