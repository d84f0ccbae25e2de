"""Reading speech: 16 kHz, mono, WAV or FLAC, loose or in a tar archive, checked against the manifest."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import soundfile

from artifacts.errors import InputError
from corpora.archives import MemberFile
from corpora.manifest import Member, Utterance

SAMPLE_RATE_HZ = 16000


def read_waveform(utterance: Utterance) -> np.ndarray:
    """The whole waveform, float32 in [-1, 1], (num_samples,).

    Raises:
        InputError: The file is missing, unreadable, empty, not 16 kHz, not mono, has samples that
            are not finite, or has another length than the manifest says.
    """
    return read_crop(utterance, 0, utterance.num_samples)


def read_crop(utterance: Utterance, start: int, num_samples: int) -> np.ndarray:
    """Samples `start` to `start + num_samples`, float32, (num_samples,); only these are read.

    Raises:
        InputError: As `read_waveform`.
        ValueError: The crop does not lie inside the utterance.
    """
    if not 0 <= start <= start + num_samples <= utterance.num_samples:
        raise ValueError(
            f"crop {start}:{start + num_samples} of {utterance.fileid}, which has {utterance.num_samples} samples"
        )
    path = utterance.path
    with _open(path, utterance.member) as file:
        if file.frames != utterance.num_samples:
            raise InputError(f"{path}: found {file.frames:,} samples, the manifest says {utterance.num_samples:,}")
        try:
            file.seek(start)
            waveform: np.ndarray = file.read(num_samples, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path}: damaged after {start:,} samples ({error.error_string.rstrip('.')})") from None
    if len(waveform) != num_samples:
        raise InputError(f"{path}: truncated, found {len(waveform):,} samples from {start:,}, expected {num_samples:,}")
    if not np.isfinite(waveform).all():
        raise InputError(f"{path}: found samples that are not finite, expected numbers in [-1, 1]")
    return waveform


def read_num_samples(path: Path, member: Member | None = None) -> int:
    """Number of samples of an audio file, from its header alone.

    Args:
        member: Where it lies in an archive, if it does.

    Raises:
        InputError: The file is missing, unreadable, empty, not 16 kHz or not mono.
    """
    with _open(path, member) as file:
        return int(file.frames)


@contextmanager
def _open(path: Path, member: Member | None) -> Iterator[soundfile.SoundFile]:
    with ExitStack() as stack:
        try:
            source = stack.enter_context(MemberFile(member)) if member else path
            file = stack.enter_context(soundfile.SoundFile(source))
        except soundfile.LibsndfileError as error:
            if member is None and not path.exists():
                raise InputError(f"{path}: no such file") from None
            what = error.error_string.rstrip(".")
            raise InputError(f"{path}: not readable as audio ({what}), expected WAV or FLAC") from None
        if file.samplerate != SAMPLE_RATE_HZ:
            raise InputError(f"{path}: found {file.samplerate} Hz, expected {SAMPLE_RATE_HZ} Hz")
        if file.channels != 1:
            raise InputError(f"{path}: found {file.channels} channels, expected mono")
        if file.frames == 0:
            raise InputError(f"{path}: empty, expected speech")
        yield file
