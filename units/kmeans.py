"""K-means units: centroids of one layer's features (section 4.1).

Fitted with faiss on a seeded uniform sample of frames, read from the feature set without holding
it. Empty clusters are split from large ones by faiss as it goes; what the sample leaves unused at
the end is counted. The same seed gives the same bytes whatever the number of threads.

Memory: the sample, 4 bytes a value; beside it faiss takes about 24 bytes a frame, 16 MiB, and a few times
the centroids. A million frames of dimension 768 with 500 units take 3.1 GB. The draw of a sample takes at most
400 bytes for each of its frames, and less where the corpus has more than 50 times as many.

``fit`` fits one, ``convert`` makes a quantizer of a K-means of scikit-learn's, ``take`` puts one made elsewhere
in the place of one that would be fitted.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from artifacts.errors import InputError, run
from artifacts.files import read_json_object
from artifacts.progress import Progress
from artifacts.provenance import provenance
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from units.features import FeatureReader, draw_frames
from units.kmeans_import import read_centroids
from units.quantizers import load_quantizer, write_quantizer
from units.settings import KmeansQuantizer

CHUNK = 2**14
"""Frames whose distances are summed at a time."""
SEED_LIMIT = 2**31
"""faiss' seeds are 32-bit signed integers."""
INIT = {
    "random": faiss.ClusteringInitMethod_RANDOM,
    "kmeans++": faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
}


def sample_frames(reader: FeatureReader, max_frames: int, seed: int) -> np.ndarray:
    """At most `max_frames` frames drawn uniformly without replacement, in their order: float32 (frames, dim)."""
    lengths = [reader.num_frames(fileid) for fileid in reader.fileids]
    total = reader.total_frames
    drawn = draw_frames(lengths, max_frames, seed) if total > max_frames else None
    frames = np.empty((min(total, max_frames), reader.dim), dtype=np.float32)
    done = 0
    with Progress("sample frames", len(lengths), "utterances") as progress:
        for index, fileid in enumerate(reader.fileids):
            found = reader.frames(fileid)
            kept = found if drawn is None else found[drawn[index]]
            frames[done : done + len(kept)] = kept
            done += len(kept)
            progress.advance()
    return frames


@dataclass(frozen=True, slots=True)
class Clusters:
    """What K-means found."""

    centroids: np.ndarray
    """float32 (units, dim)"""
    inertia: float
    """Sum over frames of the squared distance to the nearest centroid."""
    usage: np.ndarray
    """Frames of each cluster, int64 (units,)."""


def fit(frames: np.ndarray, settings: KmeansQuantizer, seed: int) -> Clusters:
    """Cluster frames, float32 (frames, dim). They are not copied; the module says what else faiss takes.

    Raises:
        InputError: There are fewer frames than units.
    """
    if len(frames) < settings.num_units:
        raise InputError(f"num_units: found {settings.num_units}, expected at most the {len(frames)} frames to fit on")
    kmeans = faiss.Kmeans(
        frames.shape[1],
        settings.num_units,
        niter=settings.iterations,
        nredo=settings.restarts,
        seed=seed_for(seed, "kmeans", "fit") % SEED_LIMIT,
        init_method=INIT[settings.init],
        # The sample is ours to choose: faiss neither thins it nor warns that it is small.
        min_points_per_centroid=1,
        max_points_per_centroid=len(frames),
    )
    kmeans.train(frames)
    centroids = np.asarray(kmeans.centroids)
    _, units = kmeans.assign(frames)
    usage = np.bincount(units, minlength=settings.num_units)
    # faiss' own distances change with the number of threads, in their last digits.
    inertia = 0.0
    for start in range(0, len(frames), CHUNK):
        chunk = slice(start, start + CHUNK)
        inertia += float(((frames[chunk] - centroids[units[chunk]]) ** 2).sum(dtype=np.float64))
    return Clusters(centroids, inertia, usage)


def fit_quantizer(features: Path, settings: KmeansQuantizer, seed: int, output: Path) -> None:
    """Fit K-means on a feature set and write the quantizer.

    Raises:
        InputError: The settings name a quantizer made elsewhere, or there are fewer frames than units.
    """
    if settings.fit is None:
        raise InputError("--settings: found path, expected fit: take it with python -m units.kmeans take")
    reader = FeatureReader(features)
    if reader.total_frames < settings.num_units:
        raise InputError(
            f"{features}: found {reader.total_frames} frames, expected at least num_units = {settings.num_units}"
        )
    frames = sample_frames(reader, settings.max_frames, seed)
    clusters = fit(frames, settings, seed)
    unused = int((clusters.usage == 0).sum())
    config = {
        "kind": "kmeans",
        "num_units": settings.num_units,
        **{key: reader.config[key] for key in ("encoder", "layer", "tap", "frame_rate_hz")},
        "num_frames": len(frames),
        "inertia": clusters.inertia,
        "unused": unused,
        "usage": clusters.usage.tolist(),
        "provenance": provenance(settings.model_dump(), {"features": features / "config.json"}, seed),
    }
    write_quantizer(output, config, {"centroids": clusters.centroids})
    print(f"{len(frames)} frames, inertia {clusters.inertia:.4g}, {unused} of {settings.num_units} units unused")


def convert(source: Path, config: Mapping[str, Any], output: Path) -> None:
    """Make a quantizer of the centroids in a file of scikit-learn's or a ``.npy``, see `units.kmeans_import`.

    Args:
        config: encoder, layer, tap, frame_rate_hz of the features that it was fitted on.

    Raises:
        InputError: As `read_centroids`.
    """
    centroids = read_centroids(source)
    made_by = provenance({}, {"kmeans": source})
    whole = {"kind": "kmeans", "num_units": len(centroids), **config, "provenance": made_by}
    write_quantizer(output, whole, {"centroids": centroids})


def take(settings: KmeansQuantizer, encoder: str, layer: int, output: Path) -> None:
    """Put the quantizer that the settings' `path` names in its place.

    Raises:
        InputError: There is none, or it is of another kind, size, encoder or layer.
    """
    if settings.path is None:
        raise InputError("--settings: found fit, expected path: the folder of a quantizer made elsewhere")
    quantizer = load_quantizer(Path(settings.path))
    wanted = {"kind": "kmeans", "num_units": settings.num_units, "encoder": encoder, "layer": layer}
    for key, value in wanted.items():
        if getattr(quantizer, key) != value:
            raise InputError(
                f"{quantizer.folder / 'config.json'}: {key}: found {getattr(quantizer, key)!r}, expected {value!r}"
            )
    write_quantizer(output, read_json_object(quantizer.folder / "config.json"), quantizer.tensors)


def main() -> None:
    """Fit K-means on a feature set, or use one that was made elsewhere."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fit K-means on a feature set")
    fitting.add_argument("--features", type=Path, required=True, help="feature set to fit on")
    fitting.add_argument("--settings", required=True, help="KmeansQuantizer: JSON, or a YAML file")
    fitting.add_argument("--seed", type=int, required=True, help="the experiment's seed")
    fitting.add_argument("--output", type=Path, required=True, help="quantizer folder")
    converting = commands.add_parser("convert", help="make a quantizer of a file of scikit-learn's, or a .npy")
    converting.add_argument("file", type=Path, help="joblib or pickle file of a KMeans or MiniBatchKMeans; .npy")
    converting.add_argument("--encoder", required=True, help="name of the encoder whose features it is for")
    converting.add_argument("--layer", type=int, required=True, help="counted from 1; 0: block 1's input")
    converting.add_argument("--tap", default="block", help="where in the layer: block (default), ffn, ...")
    converting.add_argument("--frame-rate", type=float, required=True, help="Hz")
    converting.add_argument("--output", type=Path, required=True, help="quantizer folder")
    taking = commands.add_parser("take", help="put the quantizer of the settings' path in its place")
    taking.add_argument("--settings", required=True, help="KmeansQuantizer: JSON, or a YAML file")
    taking.add_argument("--encoder", required=True, help="name of the encoder it must be for")
    taking.add_argument("--layer", type=int, required=True, help="layer it must be for")
    taking.add_argument("--output", type=Path, required=True, help="quantizer folder")
    given = parser.parse_args()
    if given.command == "convert":
        if given.layer < 0 or not given.frame_rate > 0:
            raise InputError(
                f"--layer, --frame-rate: found {given.layer} and {given.frame_rate:g}, expected a layer from 0 and a "
                "positive number of frames a second"
            )
        config = {key: getattr(given, key) for key in ("encoder", "layer", "tap")}
        convert(given.file, config | {"frame_rate_hz": given.frame_rate}, given.output)
        return
    settings = load_settings(KmeansQuantizer, given.settings)
    if given.command == "take":
        take(settings, given.encoder, given.layer, given.output)
    else:
        fit_quantizer(given.features, settings, given.seed, given.output)


if __name__ == "__main__":
    run(main)
