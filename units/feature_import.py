"""Feature sets made elsewhere: a folder of ``.pt`` or ``.npy`` files, one an utterance, becomes one of ours.

Each file holds the frames of an utterance, (frames, dim), float16, float32 or float64. Its path within the
folder, without extension, is the fileid, or has some folders more or fewer in front: ``84/84-1-0.pt`` and
``84-1-0.npy`` are both of ``84-1-0`` and of ``dev/84/84-1-0``. ``.pt`` files, as torch.save writes them, are read
without executing anything (``weights_only``).
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from artifacts.errors import InputError, run
from artifacts.progress import Progress
from artifacts.provenance import provenance
from corpora.audio import SAMPLE_RATE_HZ
from corpora.manifest import Utterance, read_manifest
from units.features import Dtype, FeatureWriter
from units.interchange import TOLERANCE_SAMPLES, TOLERANCE_SHARE

SUFFIXES = (".pt", ".npy")
DTYPES = ("float16", "float32", "float64")
AN_ARRAY = "expected an array that numpy.save wrote"
A_TENSOR = "expected a tensor that torch.save wrote"


def import_features(
    folder: Path, manifest: Path, output: Path, config: dict[str, Any], dtype: Dtype = "float16"
) -> None:
    """Write the feature set of a folder of files, in the order of the manifest, one utterance in memory at a time.

    Args:
        config: encoder, layer, tap, frame_rate_hz of the features.

    Raises:
        InputError: An utterance without file, a file without utterance, or a file whose frames are no finite
            (frames, dim) of one dim, or lie further from the length of the audio than `check_length` allows.
    """
    utterances = read_manifest(manifest)
    files = match(folder, utterances, manifest)
    made_by = provenance({"dtype": dtype, **config}, {"features": folder, "manifest": manifest})
    dim = None
    with (
        FeatureWriter(output, config | {"provenance": made_by}, dtype) as writer,
        Progress(f"import {folder.name}", len(files), "files") as progress,
    ):
        for utterance, file in zip(utterances, files, strict=True):
            frames = read_frames(file)
            dim = frames.shape[1] if dim is None else dim
            if frames.shape[1] != dim:
                raise InputError(f"{file}: found dimension {frames.shape[1]}, expected {dim}: that of {files[0]}")
            check_length(file, len(frames), config["frame_rate_hz"], utterance)
            try:
                writer.write(utterance.fileid, frames)
            except InputError as error:
                raise InputError(f"{file}: {error}") from None
            progress.advance()


def match(folder: Path, utterances: Sequence[Utterance], manifest: Path) -> list[Path]:
    """The file of each utterance: the one whose path ends like the fileid, or the other way round.

    Raises:
        InputError: No file for an utterance, several, or a file that is no utterance's.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], Path]]] = defaultdict(list)
    total = 0
    for file in sorted(folder.rglob("*")):
        if file.suffix in SUFFIXES and file.is_file():
            parts = file.relative_to(folder).with_suffix("").parts
            by_name[parts[-1]].append((parts, file))
            total += 1
    if not total:
        raise InputError(f"{folder}: found no file, expected one of {' or '.join(SUFFIXES)} for each utterance")
    owner: dict[Path, str] = {}
    found = []
    missing = []
    for utterance in utterances:
        wanted = PurePosixPath(utterance.fileid).parts
        files = [file for parts, file in by_name.get(wanted[-1], []) if _end_alike(parts, wanted)]
        if not files:
            missing.append(utterance.fileid)
            continue
        if len(files) > 1:
            raise InputError(f"{folder}: found {files[0]} and {files[1]} for {utterance.fileid}, expected one of them")
        if files[0] in owner:
            raise InputError(
                f"{files[0]}: found to be {owner[files[0]]} or {utterance.fileid} of {manifest}, expected one of them"
            )
        owner[files[0]] = utterance.fileid
        found.append(files[0])
    if missing:
        raise InputError(
            f"{folder}: found no file for {missing[0]}, expected one for each of the {len(utterances)} utterances of "
            f"{manifest} ({len(missing)} have none)"
        )
    if len(owner) < total:
        strays = [file for named in by_name.values() for _, file in named if file not in owner]
        raise InputError(f"{strays[0]}: expected an utterance of {manifest} ({len(strays)} files are none)")
    return found


def _end_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter of two paths is the end of the longer."""
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]


def read_frames(file: Path) -> np.ndarray:
    """The frames in a file, (frames, dim), finite, of one of `DTYPES`.

    Raises:
        InputError: The file cannot be read, is no such array, or holds a value that is not finite.
    """
    frames = _read_npy(file) if file.suffix == ".npy" else _read_pt(file)
    if str(frames.dtype) not in DTYPES:
        raise InputError(f"{file}: found values of type {frames.dtype}, expected {', '.join(DTYPES)}")
    if frames.ndim != 2 or 0 in frames.shape:
        raise InputError(f"{file}: found shape {tuple(frames.shape)}, expected (frames, dim)")
    finite = np.isfinite(frames).all(axis=1)
    if not finite.all():
        raise InputError(f"{file}: found a value that is not finite in frame {finite.argmin()}, expected none")
    return frames


def _read_npy(file: Path) -> np.ndarray:
    try:
        found = np.load(file, allow_pickle=False)
    except Exception as error:  # bytes of any kind raise errors of any kind
        raise InputError(
            f"{file}: cannot be read ({_reason(error)}), expected an array that numpy.save wrote"
        ) from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"{file}: found a {type(found).__name__}, {AN_ARRAY}")
    return found


def _read_pt(file: Path) -> np.ndarray:
    import torch

    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of any kind raise errors of any kind
        raise InputError(
            f"{file}: cannot be read ({_reason(error)}), expected a tensor that torch.save wrote"
        ) from None
    if not isinstance(found, torch.Tensor):
        raise InputError(f"{file}: found a {type(found).__name__}, {A_TENSOR}")
    if str(found.dtype).removeprefix("torch.") not in DTYPES:
        raise InputError(f"{file}: found values of type {found.dtype}, expected {', '.join(DTYPES)}")
    frames: np.ndarray = found.detach().numpy()
    return frames


def _reason(error: Exception) -> str:
    """One line, without torch's advice to trust the file, which it puts around the error of its unpickler."""
    reason = " ".join(str(error.__context__ or error).split()).partition(" Please use")[0]
    return f"{type(error).__name__}: {reason[:150]}"


def check_length(file: Path, num_frames: int, frame_rate_hz: float, utterance: Utterance) -> None:
    """Hold the frames of an utterance against its audio, to 0.1 s and a thousandth of its length.

    Convolutional encoders drop a part of a frame at the ends, those that centre or pad add one; 0.1 s is as in
    fairseq's ``verify_label_lengths``. The thousandth is for frames lost where long files were cut.

    Raises:
        InputError: There are too many or too few.
    """
    seconds = utterance.num_samples / SAMPLE_RATE_HZ
    tolerance_s = TOLERANCE_SAMPLES / SAMPLE_RATE_HZ + TOLERANCE_SHARE * seconds
    if abs(num_frames / frame_rate_hz - seconds) > tolerance_s:
        raise InputError(
            f"{file}: found {num_frames} frames, {num_frames / frame_rate_hz:.2f} s at {frame_rate_hz:g} Hz, expected "
            f"the {seconds:.2f} s of {utterance.fileid} in the manifest, to {tolerance_s:.2f} s"
        )


def main() -> None:
    """Make a feature set of a folder of .pt or .npy files, one an utterance, that were made elsewhere."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="files (frames, dim), named by fileid, in folders or not")
    parser.add_argument("--manifest", type=Path, required=True, help="utterances: each needs its file")
    parser.add_argument("--encoder", required=True, help="name of the encoder that made them")
    parser.add_argument("--layer", type=int, required=True, help="counted from 1; 0: block 1's input")
    parser.add_argument("--tap", default="block", help="where in the layer: block (default), ffn, ...")
    parser.add_argument("--frame-rate", type=float, required=True, help="Hz")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="default: float16")
    parser.add_argument("--output", type=Path, required=True, help="feature folder")
    given = parser.parse_args()
    if not given.folder.is_dir():
        raise InputError(f"{given.folder}: no such folder")
    if not given.frame_rate > 0:
        raise InputError(f"--frame-rate: found {given.frame_rate:g}, expected a positive number of frames a second")
    if given.layer < 0:
        raise InputError(f"--layer: found {given.layer}, expected 0 or more")
    config = {"encoder": given.encoder, "layer": given.layer, "tap": given.tap, "frame_rate_hz": given.frame_rate}
    import_features(given.folder, given.manifest, given.output, config, given.dtype)


if __name__ == "__main__":
    run(main)
