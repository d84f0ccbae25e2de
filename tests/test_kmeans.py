"""K-means finds what is there, from a bounded sample, and the same each time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.errors import InputError
from units.features import FeatureReader, FeatureWriter
from units.kmeans import convert, fit, fit_quantizer, sample_frames, take
from units.quantizers import Assigner, load_quantizer
from units.settings import KmeansQuantizer

CENTRES = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=np.float32)


def settings(num_units: int = 4, **keys: Any) -> KmeansQuantizer:
    return KmeansQuantizer(**{"kind": "kmeans", "num_units": num_units, "fit": "valid"} | keys)


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


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_separated_blobs_are_recovered(init: str) -> None:
    clusters = fit(blobs(), settings(init=init), seed=0)
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


def test_starts_by_squared_distance_find_blobs_that_uniform_starts_miss() -> None:
    """One start each: uniform frames fall twice into some of the blobs, and never into others."""
    centres = np.random.default_rng(0).normal(0, 100, (30, 8))
    frames = np.random.default_rng(1).normal(np.repeat(centres, 40, axis=0), 1).astype(np.float32)
    within = ((frames - np.repeat(centres, 40, axis=0)) ** 2).sum()
    once = {"restarts": 1, "iterations": 20}
    for seed in range(5):
        assert fit(frames, settings(30, init="kmeans++", **once), seed).inertia < 1.01 * within
    assert np.mean([fit(frames, settings(30, init="random", **once), seed).inertia for seed in range(5)]) > 5 * within


def test_the_best_of_the_restarts_is_kept() -> None:
    frames = np.random.default_rng(0).normal(np.repeat(np.random.default_rng(1).normal(0, 100, (12, 4)), 20, 0))
    inertia = {n: fit(frames.astype(np.float32), settings(12, restarts=n), seed=3).inertia for n in (1, 2, 10)}
    assert inertia[10] <= inertia[2] <= inertia[1]
    assert inertia[10] < inertia[1]


def test_empty_clusters_are_split_off_from_large_ones() -> None:
    """Uniform starts take copies of one point for several centroids, all but one of which get nothing.

    Lloyd's iterations alone leave many of them so.
    """
    points = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    frames = np.repeat(points, 10, axis=0)
    for seed in range(3):
        centroids = frames[np.random.default_rng(seed).choice(len(frames), 80, replace=False)]
        for _ in range(30):
            units = ((frames[:, None] - centroids) ** 2).sum(-1).argmin(1)
            for unit in np.unique(units):
                centroids[unit] = frames[units == unit].mean(0)
        assert len(np.unique(units)) < 70
        assert (fit(frames, settings(80, restarts=1), seed).usage > 0).sum() > 72


@pytest.mark.parametrize("num_units", [50, 100, 200, 256, 500, 1000])
def test_any_number_of_units_lowers_the_inertia(num_units: int) -> None:
    """Usage and inertia are those of a plain count of each frame's nearest centroid."""
    frames = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    clusters = fit(frames, settings(num_units, restarts=1, iterations=10), seed=0)
    distances = ((frames[:, None].astype(np.float64) - clusters.centroids) ** 2).sum(-1)
    assert clusters.centroids.shape == (num_units, 3)
    assert clusters.usage.tolist() == np.bincount(distances.argmin(1), minlength=num_units).tolist()
    assert clusters.inertia == pytest.approx(distances.min(1).sum(), rel=1e-4)
    assert clusters.inertia < ((frames[:, None] - frames[:num_units]) ** 2).sum(-1).min(1).sum()


MEMORY = """
import sys
from units.kmeans import fit
from units.settings import KmeansQuantizer
import numpy as np

def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

settings = KmeansQuantizer(kind="kmeans", num_units=100, fit="c", iterations=2, restarts=2, init=sys.argv[1])
fit(np.random.default_rng(0).standard_normal((4096, 64), dtype=np.float32), settings, 0)
frames = np.random.default_rng(0).standard_normal((400_000, 64), dtype=np.float32)
before = peak()
fit(frames, settings, 0)
print(peak() - before)
"""


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_fitting_takes_little_beside_the_frames(init: str) -> None:
    """What the docstring says, in a fourth of the sample that a copy of it would take."""
    done = subprocess.run([sys.executable, "-c", MEMORY, init], capture_output=True, text=True, check=True)
    frames_bytes = 400_000 * 64 * 4
    assert int(done.stdout) < 400_000 * 24 + 2**24 < frames_bytes / 3.8


def test_as_many_units_as_frames_are_the_frames() -> None:
    frames = blobs(8)
    clusters = fit(frames, settings(8), seed=0)
    assert clusters.usage.tolist() == [1] * 8
    assert clusters.inertia == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_identical_frames_leave_units_unused_but_finite(init: str) -> None:
    clusters = fit(np.ones((50, 3), dtype=np.float32), settings(4, init=init), seed=0)
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


def run_kmeans(
    features: Path, output: Path, num_units: int, threads: int = 1, init: str = "random"
) -> subprocess.CompletedProcess[str]:
    given = {"kind": "kmeans", "num_units": num_units, "fit": "valid", "max_frames": 300, "init": init}
    options = ["--features", features, "--settings", json.dumps(given), "--seed", "0", "--output", output]
    return subprocess.run(
        [sys.executable, "-m", "units.kmeans", "fit", *map(str, options)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_the_number_of_threads_does_not_change_a_byte(features: Path, tmp_path: Path, init: str) -> None:
    for threads in (1, 2):
        done = run_kmeans(features, tmp_path / f"threads{threads}", 16, threads, init)
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
    np.testing.assert_array_equal(Assigner(quantizer)(frames), distances.argmin(-1))
    with pytest.raises(InputError, match="expects frames of dimension 2, found 3"):
        Assigner(quantizer)(np.zeros((5, 3), dtype=np.float32))


def test_a_feature_set_too_small_ends_the_command_with_one_line(features: Path, tmp_path: Path) -> None:
    done = run_kmeans(features, tmp_path / "kmeans", 5000)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "features: found 390 frames, expected at least num_units = 5000" in done.stderr
    assert not (tmp_path / "kmeans").exists()


def test_one_made_elsewhere_is_taken_where_it_belongs(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", blobs(40))
    config = {"encoder": "toy", "layer": 6, "tap": "block", "frame_rate_hz": 50.0}
    convert(tmp_path / "c.npy", config, tmp_path / "made")
    taken = settings(40, fit=None, path=str(tmp_path / "made"))
    take(taken, "toy", 6, tmp_path / "quantizers" / "k")
    np.testing.assert_array_equal(load_quantizer(tmp_path / "quantizers" / "k").tensors["centroids"], blobs(40))
    for encoder, layer, num_units, message in (
        ("other", 6, 40, "encoder: found 'toy', expected 'other'"),
        ("toy", 7, 40, "layer: found 6, expected 7"),
        ("toy", 6, 41, "num_units: found 40, expected 41"),
    ):
        with pytest.raises(InputError, match=message):
            take(settings(num_units, fit=None, path=str(tmp_path / "made")), encoder, layer, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    with pytest.raises(InputError, match="found fit, expected path"):
        take(settings(40), "toy", 6, tmp_path / "wrong")
    with pytest.raises(InputError, match="found path, expected fit"):
        fit_quantizer(tmp_path, taken, 0, tmp_path / "wrong")


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
