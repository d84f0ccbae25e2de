"""Speech to units in one pass: no feature touches the disk, whatever the corpus' size.

All wanted quantizers share one forward pass. A corpus may be shared out among jobs: batches are formed
before it is, so that units are the same, to the last bit, however many jobs there are. Each job writes
its piece of each system's units; ``units.take`` makes them one file.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.device import DeviceName, Precision, computing_in, uses_gpu
from artifacts.errors import InputError, run
from artifacts.files import sha256, write_json
from artifacts.progress import Progress
from artifacts.provenance import provenance
from corpora.manifest import Utterance
from units.batches import WHOLE, Shard, encode, in_order, parse_shard, read_speech, share
from units.encoders import CodebookEncoder, Encoder, load, name_of, with_codebook
from units.passes import KEY, is_there, made_from
from units.quantizers import Assigner, Quantizer, load_quantizer
from units.records import UnitSequence, run_length, unit_writer


def tokenize(
    encoder: Encoder, assigners: Sequence[Assigner], utterances: Sequence[Utterance]
) -> Iterator[list[UnitSequence]]:
    """The units of each utterance, in order: one sequence a quantizer.

    Args:
        assigners: Of quantizers of layers that the encoder was loaded for, see `load_for`.

    Raises:
        InputError: An audio file that cannot be read, or a quantizer of another width.
    """

    def units_of(waveforms: np.ndarray) -> dict[int, np.ndarray]:
        return dict(enumerate(unit_frames(encoder, assigners, waveforms)))

    def sequences() -> Iterator[tuple[int, list[UnitSequence]]]:
        for index, stretches in groupby(encode(encoder, utterances, units_of), lambda stretch: stretch.utterance):
            parts = [stretch.arrays for stretch in stretches]
            found = [np.concatenate([part[number] for part in parts]) for number in range(len(assigners))]
            yield index, [UnitSequence(utterances[index].fileid, *run_length(frames)) for frames in found]

    return in_order(sequences())


def unit_frames(encoder: Encoder, assigners: Sequence[Assigner], waveforms: np.ndarray) -> list[np.ndarray]:
    """One unit a frame, int64 (batch, frames), for each quantizer, of waveforms (batch, samples)."""
    quantizers = [assigner.quantizer for assigner in assigners]
    layers = sorted({quantizer.layer for quantizer in quantizers if quantizer.kind == "kmeans"})
    codebook_layers = sorted({quantizer.layer for quantizer in quantizers if quantizer.kind == "codebook"})
    if codebook_layers:
        assert isinstance(encoder, CodebookEncoder)
        features, predictions = encoder.features_and_predictions(waveforms, layers, codebook_layers)
    else:
        features, predictions = encoder.features(waveforms, layers), {}
    frames = {"kmeans": features, "codebook": predictions}
    return [
        assigner(frames[quantizer.kind][quantizer.layer])
        for assigner, quantizer in zip(assigners, quantizers, strict=True)
    ]


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


def system_of(quantizer: Quantizer) -> str:
    """Name of the system whose units a quantizer makes: ``<encoder>-L<layer>-<quantizer>``."""
    return f"{quantizer.encoder}-L{quantizer.layer:02d}-{quantizer.folder.name}"


def tokenize_corpora(
    encoder_folder: Path,
    quantizers: Sequence[Quantizer],
    manifests: Sequence[Path],
    output: Path,
    shard: Shard = WHOLE,
    device: DeviceName = "auto",
    precision: Precision = "float32",
) -> None:
    """Write the units of corpora that are not in `output` yet: ``<system>/<corpus>.jsonl``, a corpus being its folder.

    Args:
        shard: The part of each corpus that is tokenized here.

    Raises:
        InputError: As `load_for`, `read_speech` and `tokenize`.
    """
    origins = {
        (manifest, quantizer.folder): made_from(
            encoder_folder,
            manifest,
            quantizer=sha256(quantizer.folder / "quantizer.safetensors"),
            layer=quantizer.layer,
            shard=str(shard),
            precision=precision,
        )
        for manifest in manifests
        for quantizer in quantizers
    }
    missing: dict[Path, list[Quantizer]] = {}
    for manifest in manifests:
        for quantizer in quantizers:
            if not is_there(_record(output, quantizer, manifest), origins[manifest, quantizer.folder]):
                missing.setdefault(manifest, []).append(quantizer)
    if not missing:
        print("all units are there, made from the same encoder, quantizers and manifests")
        return
    wanted = [quantizer for quantizer in quantizers if any(quantizer in found for found in missing.values())]
    encoder = load_for(encoder_folder, wanted, device)
    # One that takes utterances one at a time is on the CPU: MFCC, wherever others are.
    assigns_on = "cuda" if encoder.batch_samples and uses_gpu(device) else "cpu"
    assigners = {quantizer.folder: Assigner(quantizer, assigns_on) for quantizer in wanted}
    corpora = {manifest: share(read_speech(manifest, encoder), shard) for manifest in missing}
    for manifest, utterances in corpora.items():
        records = [_record(output, quantizer, manifest) for quantizer in missing[manifest]]
        for record in records:
            record.unlink(missing_ok=True)
        with ExitStack() as stack:
            stack.enter_context(computing_in(precision, device))
            writers = [stack.enter_context(unit_writer(record.with_suffix(".jsonl"))) for record in records]
            progress = stack.enter_context(Progress(f"tokenize {manifest.parent.name}", len(utterances), "utterances"))
            mine = [assigners[quantizer.folder] for quantizer in missing[manifest]]
            for sequences in tokenize(encoder, mine, utterances):
                for write, sequence in zip(writers, sequences, strict=True):
                    write(sequence)
                progress.advance()
        for quantizer, record in zip(missing[manifest], records, strict=True):
            write_json(record, {KEY: origins[manifest, quantizer.folder]})


def _record(output: Path, quantizer: Quantizer, manifest: Path) -> Path:
    return output / system_of(quantizer) / f"{manifest.parent.name}.json"


def main() -> None:
    """Turn corpora into units of one or several quantizers of one encoder, in one pass."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="encoder folder")
    parser.add_argument("--quantizer", type=Path, nargs="+", required=True, help="quantizer folders")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="manifests, each named by its folder")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder; units go to <system>/<corpus>.jsonl, pass.json says how"
    )
    parser.add_argument("--shard", default="0/1", help="NUMBER/OF: this part of each corpus, from 0/OF on")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the forward passes")
    given = parser.parse_args()
    shard = parse_shard(given.shard)
    names = [manifest.parent.name for manifest in given.manifest]
    if len(set(names)) < len(names):
        raise InputError(
            f"--manifest: found two corpora of one name in {', '.join(names)}, expected folders of different names"
        )
    quantizers = [load_quantizer(folder) for folder in given.quantizer]
    tokenize_corpora(given.encoder, quantizers, given.manifest, given.output, shard, given.device, given.precision)
    inputs: dict[str, Path] = {"encoder": given.encoder}
    inputs |= {f"quantizer {system_of(quantizer)}": quantizer.folder for quantizer in quantizers}
    inputs |= {f"manifest {name}": manifest for name, manifest in zip(names, given.manifest, strict=True)}
    settings: dict[str, Any] = {"shard": str(shard), "precision": given.precision}
    systems = [system_of(quantizer) for quantizer in quantizers]
    record = {"systems": systems, "corpora": names, "provenance": provenance(settings, inputs)}
    write_json(given.output / "pass.json", record)


if __name__ == "__main__":
    run(main)
