"""Frames of labelled segments, from a feature set or from units."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError
from eval.segments import Segment
from units.features import FeatureReader
from units.records import read_units

type Frames = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Frames by utterance.

    Attributes:
        path: The feature set or the file of units, for messages.
        num_frames: Frames of each utterance.
        read: All frames of an utterance, (frames, dim); units have one dimension.
    """

    path: Path
    frame_rate_hz: float
    num_frames: Mapping[str, int]
    read: Callable[[str], Frames]


def feature_frames(folder: Path) -> FrameSource:
    """Frames of a feature set, read when they are asked for."""
    reader = FeatureReader(folder)
    num_frames = {fileid: reader.num_frames(fileid) for fileid in reader.fileids}
    return FrameSource(folder, reader.frame_rate_hz, num_frames, reader.frames)


def unit_frames(path: Path, frame_rate_hz: float) -> FrameSource:
    """Frames of a file of units; the units stay run-length encoded until they are asked for."""
    sequences = {sequence.fileid: sequence for sequence in read_units(path)}
    num_frames = {fileid: sequence.num_frames for fileid, sequence in sequences.items()}
    return FrameSource(path, frame_rate_hz, num_frames, lambda fileid: sequences[fileid].frames()[:, None])


def by_utterance(segments: Sequence[Segment]) -> dict[str, list[int]]:
    """Indices of the segments of each utterance, in order of first appearance."""
    members: dict[str, list[int]] = {}
    for index, segment in enumerate(segments):
        members.setdefault(segment.fileid, []).append(index)
    return members


def read_finite(source: FrameSource, fileids: Sequence[str]) -> Iterator[tuple[str, Frames]]:
    """Stream utterances and their frames.

    Raises:
        InputError: A value is not finite.
    """
    for fileid in fileids:
        frames = source.read(fileid)
        if not np.isfinite(frames).all():
            raise InputError(f"{source.path}: a value of {fileid} is not finite")
        yield fileid, frames


def gather(
    source: FrameSource,
    segments: Sequence[Segment],
    spans: npt.NDArray[np.int64],
    prepare: Callable[[str, Frames], Frames],
    folder: Path,
) -> tuple[Frames, npt.NDArray[np.int64]]:
    """The frames of all segments in one array, and where in it each segment lies.

    The array is a file without a name in `folder`, mapped into memory: the system holds as much of it as there is room
    for, and frees the disk with the last reference. A frame is held once however many segments share it: triphones
    overlap, and would hold each three times.

    Args:
        spans: First frame of each segment and the one after the last, in its utterance, (n, 2).
        prepare: Called with each utterance and its frames that a segment has, makes of them what is kept.

    Returns:
        Frames, (frames in a segment, dim), and the spans within them, (n, 2).
    """
    used: dict[str, npt.NDArray[np.bool_]] = {}
    starts = np.empty(len(segments), np.int64)
    total = 0
    for fileid, members in by_utterance(segments).items():
        inside = used[fileid] = np.zeros(source.num_frames[fileid], bool)
        for start, stop in spans[members]:
            inside[start:stop] = True
        before = np.cumsum(inside) - inside
        starts[members] = total + before[spans[members, 0]]
        total += int(inside.sum())
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        dim, dtype = 0, np.dtype(np.float32)
        for fileid, frames in read_finite(source, list(used)):
            kept = np.ascontiguousarray(prepare(fileid, frames[used[fileid]]))
            dim, dtype = kept.shape[1], kept.dtype
            file.write(kept.data)
        file.flush()
        data = np.memmap(file, dtype, "r+", shape=(total, dim))
    return data, np.stack((starts, starts + spans[:, 1] - spans[:, 0]), axis=1)
