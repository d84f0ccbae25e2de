"""Labelled segments of utterances (phones, triphones, words) and the frames that lie in them.

The frames of a segment are those i with onset <= (i + 1/2) / rate <= offset, fastabx's and the paper's rule;
times stay decimal, so that no rounding moves a frame.

Encoders of any frame rate are scored on the same segments, those of the list, or their scores could not be set side by
side. So what fastabx refuses has frames here: a segment between two centres has the frame that its middle lies in, and
one that reaches past the last frame ends with it. A score says how many there were. An encoder that is too coarse for
a short phone is not excused from it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError
from artifacts.files import read_csv

ITEM_COLUMNS = ("#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker")
WORD_COLUMNS = ("fileid", "onset", "offset", "label", "speaker")
HALF = Decimal("0.5")
MOST_MISSING = 2
"""Frames that an utterance may lack at its end: windows that are not padded and as long as two frames lose as many."""
NAMED = 3  # how many of many a message names


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an utterance, times in seconds; only items have a context."""

    fileid: str
    onset: Decimal
    offset: Decimal
    label: str
    speaker: str
    previous: str = ""
    following: str = ""


def read_item(path: Path) -> list[Segment]:
    """The segments of a ZeroSpeech item file, in file order.

    Raises:
        InputError: A malformed line, named.
    """
    segments = []
    for line, row in _item_rows(path):
        onset, offset = _times(path, line, row)
        context = row["prev-phone"], row["next-phone"]
        segments.append(Segment(row["#file"], onset, offset, row["#phone"], row["speaker"], *context))
    return _some(path, segments)


def _item_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a file whose fields are separated by spaces and never quoted."""
    try:
        with path.open(encoding="utf-8") as file:
            header = file.readline().split()
            if sorted(header) != sorted(ITEM_COLUMNS):
                raise InputError(f"{path}, line 1: found columns {' '.join(header)}, expected {' '.join(ITEM_COLUMNS)}")
            for line, text in enumerate(file, start=2):
                fields = text.split()
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise InputError(f"{path}, line {line}: found {len(fields)} fields, expected {len(header)}")
                yield line, dict(zip(header, fields, strict=True))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None


def read_words(path: Path) -> list[Segment]:
    """The word tokens of a words.csv, in file order.

    Raises:
        InputError: A malformed line, named.
    """
    segments = []
    for line, row in read_csv(path, WORD_COLUMNS):
        segments.append(Segment(row["fileid"], *_times(path, line, row), row["label"], row["speaker"]))
    return _some(path, segments)


def _times(path: Path, line: int, row: Mapping[str, str]) -> tuple[Decimal, Decimal]:
    try:
        onset, offset = Decimal(row["onset"]), Decimal(row["offset"])
    except InvalidOperation:
        onset = offset = Decimal("NaN")
    if not (onset.is_finite() and offset.is_finite() and 0 <= onset < offset):
        raise InputError(f"{path}, line {line}: found {row['onset']} to {row['offset']}, expected 0 <= onset < offset")
    return onset, offset


def _some(path: Path, segments: list[Segment]) -> list[Segment]:
    if not segments:
        raise InputError(f"{path}: no rows, expected segments")
    return segments


@dataclass(frozen=True, slots=True)
class Spans:
    """Which frames each of some segments has.

    Attributes:
        frames: First frame and the one after the last, in its utterance, (n, 2); at least one frame.
        num_nearest: Segments between two centres, which have the nearest frame.
        num_cut: Segments that hold a centre past the last frame of their utterance.
    """

    frames: npt.NDArray[np.int64]
    num_nearest: int
    num_cut: int

    @property
    def conditions(self) -> dict[str, Any]:
        """What a score says of them."""
        return {
            "frames": "centres in the segment; of one between two centres the nearest; up to the last there is",
            "num_nearest_frame": self.num_nearest,
            "num_cut_at_end": self.num_cut,
        }


def frame_span(onset: Decimal, offset: Decimal, frame_rate_hz: Decimal) -> tuple[int, int]:
    """First frame and the one after the last whose centre lies between `onset` and `offset`, both included."""
    return math.ceil(onset * frame_rate_hz - HALF), math.floor(offset * frame_rate_hz - HALF) + 1


def frame_spans(path: Path, segments: Sequence[Segment], num_frames: Mapping[str, int], frame_rate_hz: float) -> Spans:
    """Frames of each segment.

    Args:
        path: The file the segments were read from, for messages.
        num_frames: Frames there are of each utterance.

    Raises:
        InputError: Utterances without frames, or segments that reach further past the last frame than windows explain;
            all counted.
    """
    if missing := sorted({segment.fileid for segment in segments} - num_frames.keys()):
        names = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        raise InputError(f"{path}: {len(missing)} of its utterances have no frames: {names}")
    rate = Decimal(str(frame_rate_hz))
    spans = np.array([frame_span(segment.onset, segment.offset, rate) for segment in segments])
    there = np.array([num_frames[segment.fileid] for segment in segments])
    past = (spans[:, 1] > there + MOST_MISSING) | (there == 0)
    if past.any():
        first = segments[int(past.argmax())]
        raise InputError(
            f"{path}: {past.sum()} segments past the last frame at {frame_rate_hz:g} Hz, the first {first.label} of "
            f"{first.fileid} at {first.onset} to {first.offset} s ({num_frames[first.fileid]} frames); "
            f"expected at most {MOST_MISSING} frames more than there are"
        )
    between = spans[:, 1] <= spans[:, 0]
    cut = ~between & (spans[:, 1] > there)
    spans[:, 1] = spans[:, 1].clip(max=there)
    for index in np.flatnonzero(spans[:, 1] <= spans[:, 0]).tolist():
        middle = (segments[index].onset + segments[index].offset) / 2
        nearest = min(math.floor(middle * rate), num_frames[segments[index].fileid] - 1)
        spans[index] = nearest, nearest + 1
    return Spans(spans, int(between.sum()), int(cut.sum()))
