"""Features of a corpus, or soft-max codebook predictions: one forward pass for all wanted layers.

Features go to disk only where something reads them more than once: K-means, ABX, MAP, plots.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from artifacts.device import DeviceName
from artifacts.errors import InputError, run
from artifacts.progress import Progress
from artifacts.provenance import provenance
from units.batches import read_batches, read_speech
from units.encoders import load, name_of, with_codebook
from units.features import Dtype, FeatureWriter


def extract(
    encoder_folder: Path,
    layers: Sequence[int],
    manifest: Path,
    outputs: Sequence[Path],
    device: DeviceName = "auto",
    predictions: bool = False,
    dtype: Dtype = "float16",
) -> None:
    """Write a feature set of each layer over the utterances of a manifest.

    Args:
        outputs: One folder a layer.
        predictions: Write the soft-max predictions of the layers' heads instead of their features.

    Raises:
        InputError: A layer the encoder does not have, an audio file that cannot be read, a value
            that `dtype` cannot hold.
    """
    encoder = load(encoder_folder, device, layers)
    frames_of = with_codebook(encoder, encoder_folder, layers).predictions if predictions else encoder.features
    utterances = read_speech(manifest, encoder)
    settings = {"layers": list(layers), "predictions": predictions, "dtype": dtype}
    made_by = provenance(settings, {"encoder": encoder_folder / "config.json", "manifest": manifest})
    with ExitStack() as stack:
        writers = {}
        for layer, output in zip(layers, outputs, strict=True):
            config = {
                "encoder": name_of(encoder_folder),
                "layer": layer,
                "tap": "softmax" if predictions else encoder.tap,
                "frame_rate_hz": encoder.frame_rate_hz,
                "provenance": made_by,
            }
            writers[layer] = stack.enter_context(FeatureWriter(output, config, dtype))
        what = f"extract {manifest.parent.name}"
        progress = stack.enter_context(Progress(what, len(utterances), "utterances"))
        for indices, waveforms in read_batches(utterances, encoder.batch_samples):
            for layer, frames in frames_of(waveforms, layers).items():
                for index, utterance_frames in zip(indices, frames, strict=True):
                    writers[layer].write(utterances[index].fileid, utterance_frames)
            progress.advance(len(indices))


def main() -> None:
    """Write features of one or several layers, or codebook predictions, over a corpus."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="encoder folder")
    parser.add_argument(
        "--layer", type=int, nargs="+", required=True, help="layers, counted from 1; 0: block 1's input"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="utterances")
    parser.add_argument("--output", type=Path, nargs="+", required=True, help="feature folders, one a layer")
    parser.add_argument("--predictions", action="store_true", help="soft-max codebook predictions instead of features")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        help="default: float16 for features, float32 for predictions (float16 makes small probabilities 0)",
    )
    given = parser.parse_args()
    if len(given.output) != len(given.layer):
        raise InputError(f"--output: found {len(given.output)} folders, expected one for each of {given.layer}")
    dtype: Dtype = given.dtype or ("float32" if given.predictions else "float16")
    extract(given.encoder, given.layer, given.manifest, given.output, given.device, given.predictions, dtype)


if __name__ == "__main__":
    run(main)
