"""Speech to units in one pass for several layers, beside one pass a layer with the features on disk.

``python -m benchmarks.units``: noise of the lengths of LibriSpeech's utterances, a SpidR with random weights, and
two K-means a layer with centroids near frames drawn at random, for 1, 4 and 12 layers. Both sides have the same
weights and centroids, which ours converts from scikit-learn's files, and must give the same units: frames that differ
are counted, and so is how near their two centroids are.
"""

import argparse
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import faiss
import joblib  # type: ignore[import-untyped]
import numpy as np
import sklearn
import soundfile
import torch
from sklearn.cluster import KMeans

from artifacts.device import choose_device
from artifacts.provenance import git_commit
from benchmarks.pretraining import SMALL
from benchmarks.sides import Answer, Request, ask
from corpora.audio import SAMPLE_RATE_HZ
from corpora.manifest import Utterance, write_manifest
from spidr.encoder import load_encoder, write_encoder
from spidr.learner import build_learner
from spidr.settings import ModelSettings
from units.kmeans import convert
from units.quantizers import load_quantizer
from units.records import read_units

LAYERS = {1: [6], 4: [3, 6, 9, 12], 12: list(range(1, 13))}
NUM_UNITS = (100, 500)
UTTERANCE_S = (1.5, 14.5, 16.5)
"""Shortest, most frequent, longest: a triangle, about LibriSpeech's."""
NEAR = 1e-4
"""Two centroids are equally near a frame where their squared distances differ by less than this share of them."""


class System(NamedTuple):
    """A layer and a quantizer."""

    layer: int
    quantizer: Path
    estimator: Path


def make_speech(folder: Path, seconds: float) -> tuple[Path, list[Utterance]]:
    """A manifest of FLAC files of noise, as many as have `seconds` together or a little more."""
    rng = np.random.default_rng(0)
    utterances: list[Utterance] = []
    while sum(utterance.num_samples for utterance in utterances) < seconds * SAMPLE_RATE_HZ:
        num_samples = int(rng.triangular(*UTTERANCE_S) * SAMPLE_RATE_HZ)
        path = folder / f"u{len(utterances):05d}.flac"
        # Louder and softer, and of another colour every 0.1 s, so that frames are of many kinds.
        shape = np.repeat(rng.uniform(0.01, 0.2, num_samples // 1600 + 1), 1600)[:num_samples]
        soundfile.write(path, (rng.standard_normal(num_samples) * shape).clip(-1, 1), SAMPLE_RATE_HZ)
        utterances.append(Utterance(path.stem, path.resolve(), num_samples, "s"))
    write_manifest(folder / "manifest.csv", utterances)
    return folder / "manifest.csv", utterances


def make_systems(folder: Path, encoder: Path, utterances: list[Utterance]) -> list[System]:
    """Two K-means for each layer: scikit-learn's files, and the quantizers that ours makes of them."""
    model, rng, systems = load_encoder(encoder, torch.device("cpu")), np.random.default_rng(1), []
    layers = LAYERS[12]
    folder.mkdir()
    waveforms = [soundfile.read(utterance.path, dtype="float32")[0] for utterance in utterances[:4]]
    found = [model.features(torch.from_numpy(waveform)[None], layers) for waveform in waveforms]
    for layer in layers:
        frames = torch.cat([features[layer][0] for features in found]).numpy()
        for num_units in NUM_UNITS:
            drawn = frames[rng.choice(len(frames), num_units)]
            centroids = (drawn + rng.standard_normal(drawn.shape) * frames.std(axis=0) / 2).astype(np.float32)
            estimator = KMeans(num_units, init=centroids, n_init=1, max_iter=1).fit(centroids)
            estimator.cluster_centers_ = centroids
            file, quantizer = folder / f"L{layer:02d}-{num_units}.joblib", folder / f"L{layer:02d}/kmeans{num_units}"
            joblib.dump(estimator, file)
            convert(file, {"encoder": encoder.name, "layer": layer, "tap": "ffn", "frame_rate_hz": 50.0}, quantizer)
            systems.append(System(layer, quantizer, file))
    return systems


class Difference(NamedTuple):
    """How far the units of the two sides agree."""

    frames: int
    differ: int
    not_near: int


def compare(systems: list[System], ours: list[str], theirs: list[str], features: Path) -> Difference:
    """Hold the units of both sides against each other, frame by frame."""
    frames = differ = not_near = 0
    for system, mine, other in zip(systems, ours, theirs, strict=True):
        centroids = load_quantizer(system.quantizer).tensors["centroids"].astype(np.float64)
        expected = {record["name"]: record["units"] for record in map(json.loads, Path(other).read_text().splitlines())}
        for sequence in read_units(Path(mine)):
            found, wanted = sequence.frames(), np.array(expected.pop(sequence.fileid))
            assert len(found) == len(wanted)
            apart = np.flatnonzero(found != wanted)
            frames, differ = frames + len(found), differ + len(apart)
            if len(apart):
                file = features / f"L{system.layer:02d}" / f"{sequence.fileid}.pt"
                given = torch.load(file, weights_only=True).double().numpy()[apart]
                one, two = (((given - centroids[units[apart]]) ** 2).sum(1) for units in (found, wanted))
                not_near += int((abs(one - two) > NEAR * np.minimum(one, two)).sum())
        assert not expected
    return Difference(frames, differ, not_near)


def size_of(*paths: Path) -> int:
    """Bytes of files, and of the files in folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())


def row(layers: int, side: str, answer: Answer, other: Answer, audio_s: float, written: int) -> str:
    ratios = (f"{other[clock] / answer[clock]:.1f}" for clock in ("wall_s", "processor_s"))
    cells = (
        f"{layers} x {len(NUM_UNITS)}",
        side,
        f"{audio_s / answer['wall_s']:,.0f}",
        next(ratios),
        f"{answer['wall_s']:.1f} s",
        f"{answer['processor_s']:.1f} s",
        next(ratios),
        f"{answer['memory_bytes'] / 2**30:.2f} GiB",
        f"{written / 1e6:,.1f} MB",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run both sides for each number of layers and print the comparison."""
    parser = argparse.ArgumentParser(description="Speech to units in one pass, beside one pass a layer.")
    parser.add_argument("--size", choices=("small", "base"), help="base (table 5) on a GPU, small on a CPU by default")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the forward passes")
    parser.add_argument("--seconds", type=float, help="of audio: 3600 on a GPU, 240 on a CPU")
    parser.add_argument("--layers", type=int, choices=LAYERS, nargs="+", default=list(LAYERS), help="how many")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    arguments = parser.parse_args()
    device = choose_device(arguments.device).type
    size = arguments.size or ("base" if device == "cuda" else "small")
    settings = ModelSettings.model_validate({**SMALL, "num_layers": 12} if size == "small" else {})
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        encoder = work / "spidr"
        write_encoder(encoder, build_learner(settings, 0), {})
        manifest, utterances = make_speech(work, arguments.seconds or (3600 if device == "cuda" else 240))
        all_systems = make_systems(work / "kmeans", encoder, utterances)
        audio_s = sum(utterance.num_samples for utterance in utterances) / SAMPLE_RATE_HZ
        common = {"encoder": str(encoder), "manifest": str(manifest), "device": device}
        common |= {"threads": arguments.threads, "precision": arguments.precision}
        rows, differences = [], []
        for count in arguments.layers:
            systems = [system for system in all_systems if system.layer in LAYERS[count]]
            folders = {side: work / f"{count}-{side}" for side in ("theirs", "ours")}
            requests: dict[str, Request] = {}
            for side, folder in folders.items():
                folder.mkdir()
                outputs = [str(folder / f"L{system.layer:02d}-{system.quantizer.name}.jsonl") for system in systems]
                requests[side] = {**common, "side": side, "outputs": outputs}
            requests["ours"]["quantizers"] = [str(system.quantizer) for system in systems]
            requests["theirs"] |= {
                "layers": [system.layer for system in systems],
                "estimators": [str(system.estimator) for system in systems],
                "features": str(folders["theirs"] / "features"),
            }
            answers = {}
            for side, request in requests.items():
                answers[side] = ask([sys.executable, "-m", "benchmarks.unit_sides"], request)
                print(f"{count} layers, {side}: {answers[side]['wall_s']:.1f} s", file=sys.stderr, flush=True)
            names = {"theirs": "one pass a layer, scikit-learn", "ours": "ours"}
            rows += [
                row(count, name, answers[side], answers["theirs"], audio_s, size_of(folders[side]))
                for side, name in names.items()
            ]
            mine, others = requests["ours"]["outputs"], requests["theirs"]["outputs"]
            differences.append((count, compare(systems, mine, others, folders["theirs"] / "features")))
            shutil.rmtree(folders["theirs"])
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"
    print(
        f"\n{size} size, {len(utterances)} utterances, {audio_s:.0f} s of audio, {where}, {arguments.threads} threads, "
        f"{arguments.precision}"
    )
    packages = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, faiss {faiss.__version__}"
    print(f"{packages}, Python {platform.python_version()}, commit {git_commit()}\n")
    print("| layers x quantizers | | audio hours per hour | ratio | time | processor | ratio | peak memory | written |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows) + "\n")
    for count, difference in differences:
        print(
            f"{count} layers: {difference.differ} of {difference.frames:,} frames have another unit, "
            f"{difference.not_near} of them where one centroid is nearer by more than {NEAR:g} of the squared distance"
        )


if __name__ == "__main__":
    main()
