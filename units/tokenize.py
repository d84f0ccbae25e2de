"""Speech to units in one pass: no feature touches the disk, whatever the corpus' size.

All wanted quantizers share the forward passes: one for those that read features, one for codebooks.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from artifacts.device import DeviceName
from artifacts.errors import InputError, run
from artifacts.progress import Progress
from corpora.manifest import Utterance
from units.batches import in_order, read_batches, read_speech
from units.encoders import CodebookEncoder, Encoder, load, name_of, with_codebook
from units.quantizers import Quantizer, assign, load_quantizer
from units.records import UnitSequence, run_length, unit_writer


def tokenize(
    encoder: Encoder, quantizers: Sequence[Quantizer], utterances: Sequence[Utterance]
) -> Iterator[list[UnitSequence]]:
    """The units of each utterance, in order: one sequence a quantizer.

    Args:
        quantizers: Of layers that the encoder was loaded for, see `load_for`.

    Raises:
        InputError: An audio file that cannot be read, or a quantizer of another width.
    """

    def batches() -> Iterator[tuple[list[int], list[list[UnitSequence]]]]:
        for indices, waveforms in read_batches(utterances, encoder.batch_samples):
            units = unit_frames(encoder, quantizers, waveforms)
            yield (
                indices,
                [
                    [UnitSequence(utterances[index].fileid, *run_length(frames[row])) for frames in units]
                    for row, index in enumerate(indices)
                ],
            )

    return in_order(batches())


def unit_frames(encoder: Encoder, quantizers: Sequence[Quantizer], waveforms: np.ndarray) -> list[np.ndarray]:
    """One unit a frame, int64 (batch, frames), for each quantizer, of waveforms (batch, samples)."""
    frames: dict[tuple[str, int], np.ndarray] = {}
    layers = sorted({quantizer.layer for quantizer in quantizers if quantizer.kind == "kmeans"})
    if layers:
        frames |= {("kmeans", layer): found for layer, found in encoder.features(waveforms, layers).items()}
    layers = sorted({quantizer.layer for quantizer in quantizers if quantizer.kind == "codebook"})
    if layers:
        assert isinstance(encoder, CodebookEncoder)
        frames |= {("codebook", layer): found for layer, found in encoder.predictions(waveforms, layers).items()}
    return [assign(quantizer, frames[quantizer.kind, quantizer.layer]) for quantizer in quantizers]


def load_for(encoder_folder: Path, quantizers: Sequence[Quantizer], device: DeviceName) -> Encoder:
    """Load the encoder whose frames the quantizers are given.

    Raises:
        InputError: A quantizer was made for another encoder, another width or another prediction head.
    """
    for quantizer in quantizers:
        if quantizer.encoder != name_of(encoder_folder):
            raise InputError(
                f"{quantizer.folder / 'config.json'}: encoder: found {quantizer.encoder!r}, "
                f"expected {name_of(encoder_folder)!r}: the encoder that is given"
            )
    encoder = load(encoder_folder, device, [quantizer.layer for quantizer in quantizers])
    for quantizer in quantizers:
        if quantizer.kind == "kmeans":
            width = quantizer.tensors["centroids"].shape[1]
            if width != encoder.dim(quantizer.layer):
                raise InputError(
                    f"{quantizer.folder}: found centroids of dimension {width}, "
                    f"expected {encoder.dim(quantizer.layer)}: that of {encoder_folder}"
                )
        else:
            heads = with_codebook(encoder, encoder_folder, [quantizer.layer])
            weight, bias = heads.head_parameters(quantizer.layer)
            if not (
                np.array_equal(weight, quantizer.tensors["weight"]) and np.array_equal(bias, quantizer.tensors["bias"])
            ):
                raise InputError(
                    f"{quantizer.folder}: found another head than that of {encoder_folder}, expected its own"
                )
    return encoder


def main() -> None:
    """Turn corpora into units.

    With several quantizers, outputs go first by quantizer, then by manifest.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="encoder folder")
    parser.add_argument("--layer", type=int, nargs="+", required=True, help="layers, one a quantizer")
    parser.add_argument("--quantizer", type=Path, nargs="+", required=True, help="quantizer folders")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="one a corpus")
    parser.add_argument("--output", type=Path, nargs="+", required=True, help="JSONL of units, one a corpus")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args()
    quantizers = [load_quantizer(folder) for folder in given.quantizer]
    layers = [quantizer.layer for quantizer in quantizers]
    if given.layer != layers:
        raise InputError(f"--layer: found {given.layer}, expected {layers}: the layers of the quantizers")
    expected = len(quantizers) * len(given.manifest)
    if len(given.output) != expected:
        raise InputError(
            f"--output: found {len(given.output)} files, expected {expected}: one a quantizer and manifest"
        )
    encoder = load_for(given.encoder, quantizers, given.device)
    corpora = [(manifest, read_speech(manifest, encoder)) for manifest in given.manifest]
    for number, (manifest, utterances) in enumerate(corpora):
        with ExitStack() as stack:
            outputs = given.output[number :: len(corpora)]
            writers = [stack.enter_context(unit_writer(output)) for output in outputs]
            progress = stack.enter_context(Progress(f"tokenize {manifest.parent.name}", len(utterances), "utterances"))
            for sequences in tokenize(encoder, quantizers, utterances):
                for write, sequence in zip(writers, sequences, strict=True):
                    write(sequence)
                progress.advance()


if __name__ == "__main__":
    run(main)
