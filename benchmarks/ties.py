"""How many units another batch, or bfloat16, changes: ``python -m benchmarks.ties``.

A SpidR with random weights, two K-means a layer with centroids near frames drawn at random, and a codebook a layer;
noise in utterances of one length. The units of utterances alone, in float32, are held against those of batches of
eight, and of bfloat16. Frames that differ are counted, and of K-means those whose two nearest centroids are not
equally near to within 0.01% (float32) or 1% (bfloat16) of the squared distance.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from artifacts.device import Precision, choose_device, computing_in
from benchmarks.pretraining import SMALL
from benchmarks.units import LAYERS, make_speech, make_systems
from corpora.audio import SAMPLE_RATE_HZ, read_waveform
from spidr.encoder import write_encoder
from spidr.learner import build_learner
from spidr.settings import ModelSettings
from units.codebook import extract_codebook
from units.encoders import Encoder, load
from units.quantizers import Assigner, Quantizer, load_quantizer
from units.tokenize import load_for, unit_frames

UTTERANCE_S = 6
BATCH = 8


def units_of(encoder: Encoder, quantizers: list[Quantizer], waveforms: np.ndarray, batch: int) -> np.ndarray:
    """Unit of each frame, (quantizers, utterances, frames), of waveforms (utterances, samples) in batches."""
    starts = range(0, len(waveforms), batch)
    assigners = [Assigner(quantizer) for quantizer in quantizers]
    found = [np.stack(unit_frames(encoder, assigners, waveforms[start : start + batch])) for start in starts]
    return np.concatenate(found, axis=1)


def row(
    name: str,
    quantizers: list[Quantizer],
    found: np.ndarray,
    alone: np.ndarray,
    features: dict[int, np.ndarray],
    share: float,
) -> str:
    """A line of the table, for quantizers of one kind.

    Args:
        found, alone: Units, (quantizers, utterances, frames).
        features: Layer -> what was quantized when utterances were alone, (utterances, frames, dim).
        share: Of the squared distance, within which two centroids are equally near.
    """
    differ = found != alone
    far = 0
    for quantizer, where, one, other in zip(quantizers, differ, found, alone, strict=True):
        if quantizer.kind == "kmeans":
            frames = features[quantizer.layer][where].astype(np.float64)
            centroids = quantizer.tensors["centroids"].astype(np.float64)
            first, second = (((frames - centroids[units[where]]) ** 2).sum(1) for units in (one, other))
            far += int((abs(first - second) > share * np.minimum(first, second)).sum())
    kind = quantizers[0].kind
    cells = (name, f"{len(quantizers)} {kind}", f"{differ.size:,}", f"{differ.sum():,} ({differ.mean():.3%})")
    return f"| {' | '.join(cells)} | {far if kind == 'kmeans' else ''} |"


def main() -> None:
    """Count the units that batches and bfloat16 change, and print a table."""
    parser = argparse.ArgumentParser(description="How many units another batch, or bfloat16, changes.")
    parser.add_argument("--size", choices=("small", "base"), help="base (table 5) on a GPU, small on a CPU by default")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seconds", type=float, default=240, help="of audio")
    given = parser.parse_args()
    size = given.size or ("base" if choose_device(given.device).type == "cuda" else "small")
    settings = ModelSettings.model_validate({**SMALL, "num_layers": 12} if size == "small" else {})
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        encoder_folder = work / "spidr"
        write_encoder(encoder_folder, build_learner(settings, 0), {})
        _, utterances = make_speech(work, 4 * given.seconds)
        systems = make_systems(work / "kmeans", encoder_folder, utterances)
        heads = load(encoder_folder, "cpu", LAYERS[12]).codebook_layers  # type: ignore[attr-defined]
        for layer in heads:
            extract_codebook(encoder_folder, layer, work / "codebook" / f"L{layer:02d}")
        folders = [system.quantizer for system in systems] + [work / "codebook" / f"L{layer:02d}" for layer in heads]
        quantizers = [load_quantizer(folder) for folder in folders]
        num_samples = UTTERANCE_S * SAMPLE_RATE_HZ
        long_enough = [u for u in utterances if u.num_samples >= num_samples][: int(given.seconds // UTTERANCE_S)]
        waveforms = np.stack([read_waveform(utterance)[:num_samples] for utterance in long_enough])
        encoder = load_for(encoder_folder, quantizers, given.device)
        alone = units_of(encoder, quantizers, waveforms, 1)
        features = {
            layer: np.concatenate([encoder.features(w[None], [layer])[layer] for w in waveforms])
            for layer in LAYERS[12]
        }
        print(f"{size} size, {len(waveforms)} utterances of {UTTERANCE_S} s, torch {torch.__version__}\n")
        print("| | quantizers | frames | other unit | of these not near a tie |")
        print("|---|---|---|---|---|")
        cases: list[tuple[str, Precision, int, float]] = [
            (f"batches of {BATCH}, float32", "float32", BATCH, 1e-4),
            ("alone, bfloat16", "bfloat16", 1, 1e-2),
        ]
        for name, precision, batch, share in cases:
            with computing_in(precision, given.device):
                found = units_of(encoder, quantizers, waveforms, batch)
            for kind in ("kmeans", "codebook"):
                chosen = [index for index, quantizer in enumerate(quantizers) if quantizer.kind == kind]
                of_kind = [quantizers[index] for index in chosen]
                print(row(name, of_kind, found[chosen], alone[chosen], features, share))


if __name__ == "__main__":
    main()
