"""Features of a corpus, or soft-max codebook predictions: one forward pass for all wanted layers.

Features go to disk only where something reads them more than once: K-means, ABX, MAP, plots. K-means
is fitted on a sample of frames, and only that is written for it.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.device import DeviceName, Precision, computing_in
from artifacts.errors import run
from artifacts.files import write_json
from artifacts.progress import Progress
from artifacts.provenance import provenance
from units.batches import encode, read_speech
from units.encoders import Encoder, load, name_of, with_codebook
from units.features import Dtype, FeatureWriter, draw_frames
from units.passes import KEY, is_there, made_from


def extract(
    encoder_folder: Path,
    layers: Sequence[int],
    manifest: Path,
    output: Path,
    device: DeviceName = "auto",
    predictions: bool = False,
    dtype: Dtype = "float16",
    sample: int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
) -> None:
    """Write the feature sets of layers that are not in `output` yet, over the utterances of a manifest: ``L06``, ...

    Args:
        predictions: Write the soft-max predictions of the layers' heads instead of their features.
        sample: At most so many frames, drawn uniformly over the corpus without replacement.
        seed: Of the draw.

    Raises:
        InputError: A layer the encoder does not have, an audio file that cannot be read, a value
            that `dtype` cannot hold.
    """
    settings: dict[str, Any] = {"predictions": predictions, "dtype": dtype, "precision": precision}
    settings |= {"sample": sample, "seed": None if sample is None else seed}
    origin = made_from(encoder_folder, manifest, **settings)
    folders = {layer: output / f"L{layer:02d}" for layer in layers}
    missing = [layer for layer in layers if not is_there(folders[layer] / "config.json", origin)]
    if not missing:
        print("all features are there, made from the same encoder and manifest")
        return
    encoder = load(encoder_folder, device, missing)
    compute = _computation(encoder, encoder_folder, missing, predictions)
    utterances = read_speech(manifest, encoder)
    num_frames = [encoder.num_frames(utterance.num_samples) for utterance in utterances]
    drawn = None if sample is None or sample >= sum(num_frames) else draw_frames(num_frames, sample, seed)
    made_by = provenance(settings, {"encoder": encoder_folder / "config.json", "manifest": manifest})
    with ExitStack() as stack:
        stack.enter_context(computing_in(precision, device))
        writers = {}
        for layer in missing:
            config = {
                "encoder": name_of(encoder_folder),
                "layer": layer,
                "tap": "softmax" if predictions else encoder.tap,
                "frame_rate_hz": encoder.frame_rate_hz,
                "sampled_from": sum(num_frames) if drawn else None,
                KEY: origin,
                "provenance": made_by,
            }
            writers[layer] = stack.enter_context(FeatureWriter(folders[layer], config, dtype))
        progress = stack.enter_context(Progress(f"extract {manifest.parent.name}", len(utterances), "utterances"))
        for index, stretch, arrays in encode(encoder, utterances, compute):
            for layer, frames in arrays.items():
                kept = frames[_within(stretch, drawn[index])] if drawn else frames
                if len(kept):
                    writers[layer].write(utterances[index].fileid, kept)
            if stretch.stop == num_frames[index]:
                progress.advance()


def _within(stretch: range, positions: np.ndarray) -> np.ndarray:
    """Which frames of a stretch are among the rising positions, (drawn,), counted from its first."""
    first, last = np.searchsorted(positions, [stretch.start, stretch.stop])
    return positions[first:last] - stretch.start


def _computation(
    encoder: Encoder, folder: Path, layers: Sequence[int], predictions: bool
) -> Callable[[np.ndarray], dict[int, np.ndarray]]:
    if not predictions:
        return lambda waveforms: encoder.features(waveforms, layers)
    heads = with_codebook(encoder, folder, layers)
    return lambda waveforms: heads.features_and_predictions(waveforms, [], layers)[1]


def main() -> None:
    """Write features of one or several layers, or codebook predictions, over a corpus, in one pass."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="encoder folder")
    parser.add_argument(
        "--layer", type=int, nargs="+", required=True, help="layers, counted from 1; 0: block 1's input"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="utterances")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder; features of layer 6 go to L06/, pass.json says how"
    )
    parser.add_argument("--predictions", action="store_true", help="soft-max codebook predictions instead of features")
    parser.add_argument("--sample", type=int, help="at most so many frames, drawn uniformly; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        help="default: float16 for features, float32 for predictions (float16 makes small probabilities 0)",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the forward passes")
    given = parser.parse_args()
    dtype: Dtype = given.dtype or ("float32" if given.predictions else "float16")
    extract(
        given.encoder,
        given.layer,
        given.manifest,
        given.output,
        given.device,
        given.predictions,
        dtype,
        given.sample,
        given.seed,
        given.precision,
    )
    settings: dict[str, Any] = {"layers": given.layer, "predictions": given.predictions, "dtype": dtype}
    settings |= {"sample": given.sample, "precision": given.precision}
    made_by = provenance(settings, {"encoder": given.encoder, "manifest": given.manifest}, given.seed)
    write_json(given.output / "pass.json", {"provenance": made_by})


if __name__ == "__main__":
    run(main)
