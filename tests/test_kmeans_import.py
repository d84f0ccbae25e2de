"""Centroids of scikit-learn's K-means come out of its files as they are, and nothing in the files is executed."""

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.linear_model import Ridge

from artifacts.errors import InputError
from units.kmeans_import import read_centroids
from units.quantizers import Assigner, load_quantizer

NUM_UNITS = 20


def frames(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(600, 5)).astype(dtype)


@pytest.fixture(params=[(KMeans, "float32"), (KMeans, "float64"), (MiniBatchKMeans, "float32")])
def estimator(request: pytest.FixtureRequest) -> Any:
    kind, dtype = request.param
    return kind(NUM_UNITS, n_init=1, random_state=np.random.RandomState(0)).fit(frames(dtype))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_a_joblib_file_gives_its_centroids(tmp_path: Path, estimator: Any, compress: Any) -> None:
    joblib.dump(estimator, tmp_path / "km.bin", compress=compress)
    centroids = read_centroids(tmp_path / "km.bin")
    assert centroids.dtype == np.float32
    np.testing.assert_array_equal(centroids, estimator.cluster_centers_.astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_protocol_and_order_of_axes_gives_its_centroids(
    tmp_path: Path, estimator: Any, protocol: int, order: Any
) -> None:
    estimator.cluster_centers_ = np.array(estimator.cluster_centers_, order=order)
    joblib.dump(estimator, tmp_path / "km.bin", protocol=protocol)
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(estimator, protocol))
    for name in ("km.bin", "km.pkl"):
        expected = estimator.cluster_centers_.astype(np.float32)
        np.testing.assert_array_equal(read_centroids(tmp_path / name), expected)


def test_centroids_of_another_order_of_bytes_are_the_same_numbers(tmp_path: Path, estimator: Any) -> None:
    centroids = estimator.cluster_centers_
    estimator.cluster_centers_ = centroids.astype(centroids.dtype.newbyteorder(">"))
    joblib.dump(estimator, tmp_path / "km.bin")
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(estimator))
    for name in ("km.bin", "km.pkl"):
        np.testing.assert_array_equal(read_centroids(tmp_path / name), centroids.astype(np.float32))


def run_convert(file: Path, output: Path, **options: str) -> subprocess.CompletedProcess[str]:
    given = {"--encoder": "hubert-base", "--layer": "9", "--tap": "block", "--frame-rate": "50"} | options
    command = [sys.executable, "-m", "units.kmeans", "convert", str(file), "--output", str(output)]
    return subprocess.run(
        [*command, *(word for pair in given.items() for word in pair)], capture_output=True, text=True
    )


def test_the_converted_quantizer_gives_the_units_that_scikit_learn_predicts(tmp_path: Path, estimator: Any) -> None:
    joblib.dump(estimator, tmp_path / "km.bin")
    done = run_convert(tmp_path / "km.bin", tmp_path / "quantizer")
    assert done.returncode == 0, done.stderr
    quantizer = load_quantizer(tmp_path / "quantizer")
    found = (quantizer.kind, quantizer.num_units, quantizer.encoder, quantizer.layer, quantizer.frame_rate_hz)
    assert found == ("kmeans", NUM_UNITS, "hubert-base", 9, 50.0)
    unseen = np.random.default_rng(1).normal(size=(1000, 5)).astype(estimator.cluster_centers_.dtype)
    np.testing.assert_array_equal(Assigner(quantizer)(unseen.astype(np.float32)), estimator.predict(unseen))


def test_a_matrix_of_numpy_is_its_centroids(tmp_path: Path) -> None:
    for dtype in ("float16", "float32", "float64"):
        np.save(tmp_path / "c.npy", frames(dtype))
        np.testing.assert_array_equal(read_centroids(tmp_path / "c.npy"), frames(dtype).astype(np.float32))


class Malicious:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_file_executes_nothing_and_gives_one_line(tmp_path: Path, estimator: Any) -> None:
    trace = tmp_path / "executed"
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Malicious(trace)))
    joblib.dump(Malicious(trace), tmp_path / "bare.bin", compress=3)
    centroids = estimator.cluster_centers_
    estimator.cluster_centers_ = Malicious(trace)
    (tmp_path / "inside.pkl").write_bytes(pickle.dumps(estimator))
    objects = np.empty((2, 2), dtype=object)
    objects[:] = Malicious(trace)
    estimator.cluster_centers_ = objects
    joblib.dump(estimator, tmp_path / "objects.bin")
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    for file in ("bare.pkl", "bare.bin", "inside.pkl", "objects.bin", "objects.npy"):
        done = run_convert(tmp_path / file, tmp_path / "quantizer") if file == "bare.pkl" else None
        if done is not None:
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert (
                "bare.pkl: cannot be read (ValueError: found posix.system), expected a joblib or pickle" in done.stderr
            )
        with pytest.raises(InputError, match=f"{file}: cannot be read"):
            read_centroids(tmp_path / file)
    # Beside the centroids it is as inert: they are read, and nothing else happens.
    estimator.cluster_centers_, estimator.random_state = centroids, Malicious(trace)
    (tmp_path / "beside.pkl").write_bytes(pickle.dumps(estimator))
    np.testing.assert_array_equal(read_centroids(tmp_path / "beside.pkl"), centroids.astype(np.float32))
    assert not trace.exists()
    pickle.loads((tmp_path / "beside.pkl").read_bytes())
    assert trace.exists()  # the trap does work


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (KMeans(2), "found no cluster_centers_: it is not fitted"),
        (BisectingKMeans(2).fit(frames()), r"found sklearn.*BisectingKMeans\), expected a joblib or pickle file"),
        (Ridge(), r"found sklearn.*Ridge"),
        ({"centroids": frames()}, "found a dict"),
        (None, "found a NoneType"),
    ],
)
def test_another_object_is_named(tmp_path: Path, content: Any, message: str) -> None:
    joblib.dump(content, tmp_path / "km.bin")
    with pytest.raises(InputError, match=message):
        read_centroids(tmp_path / "km.bin")


def test_a_damaged_or_absent_file_is_named(tmp_path: Path, estimator: Any) -> None:
    joblib.dump(estimator, tmp_path / "km.bin")
    whole = (tmp_path / "km.bin").read_bytes()
    at = whole.index(b"cluster_centers_")
    for content in (whole[: at + 300], b"", b"text", gzip.compress(whole)[:-100], b"\x80\x04" + bytes(range(256))):
        (tmp_path / "damaged.bin").write_bytes(content)
        with pytest.raises(InputError, match=r"damaged\.bin: cannot be read"):
            read_centroids(tmp_path / "damaged.bin")
    with pytest.raises(InputError, match=r"absent\.bin: no such file"):
        read_centroids(tmp_path / "absent.bin")


@pytest.mark.parametrize(
    ("centroids", "message"),
    [
        (np.zeros(5), r"found float64 of shape \(5,\), expected two or more centroids"),
        (np.zeros((1, 5)), r"shape \(1, 5\)"),
        (np.zeros((4, 5), dtype=np.int64), "found int64"),
        (np.full((4, 5), np.nan), "not finite"),
        (np.full((4, 5), 1e300), "not finite"),
    ],
)
def test_centroids_that_are_none_are_named(tmp_path: Path, centroids: np.ndarray, message: str) -> None:
    np.save(tmp_path / "c.npy", centroids)
    with pytest.raises(InputError, match=message):
        read_centroids(tmp_path / "c.npy")
    assert run_convert(tmp_path / "c.npy", tmp_path / "quantizer", **{"--layer": "-1"}).returncode == 2
    assert not (tmp_path / "quantizer").exists()
