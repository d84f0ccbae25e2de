"""K-means units: centroids of one layer's features (section 4.1).

Fitted with faiss on a seeded uniform sample of frames, read from the feature set without holding
it. Empty clusters are split from large ones by faiss as it goes; what the sample leaves unused at
the end is counted. The same seed gives the same bytes whatever the number of threads.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from artifacts.errors import InputError, run
from artifacts.progress import Progress
from artifacts.provenance import provenance
from artifacts.seeds import generator, seed_for
from artifacts.settings import load_settings
from units.features import FeatureReader
from units.quantizers import write_quantizer
from units.settings import KmeansQuantizer

CHUNK = 2**14
"""Frames whose distances are summed at a time."""
SEED_LIMIT = 2**31
"""faiss' seeds are 32-bit signed integers."""


def sample_frames(reader: FeatureReader, max_frames: int, seed: int) -> np.ndarray:
    """At most `max_frames` frames drawn uniformly without replacement, in their order: float32 (frames, dim)."""
    total = reader.total_frames
    wanted = np.arange(total)
    if total > max_frames:
        wanted = generator(seed, "kmeans", "sample").choice(total, max_frames, replace=False, shuffle=False)
        wanted.sort()
    frames = np.empty((len(wanted), reader.dim), dtype=np.float32)
    done = first = 0
    with Progress("sample frames", len(reader.fileids), "utterances") as progress:
        for fileid in reader.fileids:
            last = first + reader.num_frames(fileid)
            stop = int(np.searchsorted(wanted, last))
            if stop > done:
                frames[done:stop] = reader.frames(fileid)[wanted[done:stop] - first]
            done, first = stop, last
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
    """Cluster frames, float32 (frames, dim).

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


def main() -> None:
    """Fit K-means on a feature set."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--features", type=Path, required=True, help="feature set to fit on")
    parser.add_argument("--settings", required=True, help="KmeansQuantizer: JSON, or a YAML file")
    parser.add_argument("--seed", type=int, required=True, help="the experiment's seed")
    parser.add_argument("--output", type=Path, required=True, help="quantizer folder")
    given = parser.parse_args()
    settings = load_settings(KmeansQuantizer, given.settings)
    reader = FeatureReader(given.features)
    if reader.total_frames < settings.num_units:
        raise InputError(
            f"{given.features}: found {reader.total_frames} frames, expected at least num_units = {settings.num_units}"
        )
    frames = sample_frames(reader, settings.max_frames, given.seed)
    clusters = fit(frames, settings, given.seed)
    config = {
        "kind": "kmeans",
        "num_units": settings.num_units,
        **{key: reader.config[key] for key in ("encoder", "layer", "tap", "frame_rate_hz")},
        "num_frames": len(frames),
        "inertia": clusters.inertia,
        "unused": int((clusters.usage == 0).sum()),
        "usage": clusters.usage.tolist(),
        "provenance": provenance(settings.model_dump(), {"features": given.features / "config.json"}, given.seed),
    }
    write_quantizer(given.output, config, {"centroids": clusters.centroids})
    print(
        f"{len(frames)} frames, inertia {clusters.inertia:.4g}, {config['unused']} of {settings.num_units} units unused"
    )


if __name__ == "__main__":
    run(main)
