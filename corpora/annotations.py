"""Time-aligned annotations: one interval table for phones and words, and labels of frames from it."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from artifacts.errors import InputError
from artifacts.files import atomic_file, read_csv

COLUMNS = ("fileid", "onset", "offset", "label", "tier", "speaker")
SILENCE = "SIL"
Tier = Literal["phones", "words"]
TIERS: tuple[Tier, ...] = ("phones", "words")


@dataclass(frozen=True, slots=True)
class Interval:
    """One labelled stretch of an utterance, in seconds; silence is the phone ``SIL``."""

    fileid: str
    onset: float
    offset: float
    label: str
    tier: Tier
    speaker: str


def read_intervals(path: Path, tier: Tier) -> dict[str, list[Interval]]:
    """The intervals of one tier by fileid, in file order; within an utterance times only rise.

    Raises:
        InputError: A time that is no number or negative, an empty or overlapping interval, an
            unknown tier, an empty label; the message names file and line.
    """
    intervals: dict[str, list[Interval]] = {}
    for line, row in read_csv(path, COLUMNS):
        where = f"{path}, line {line}"
        if row["tier"] not in TIERS:
            raise InputError(f"{where}: tier: found {row['tier']!r}, expected phones or words")
        if row["tier"] != tier:
            continue
        for column in ("fileid", "label", "speaker"):
            if not row[column]:
                raise InputError(f"{where}: {column}: found nothing, expected a name")
        onset = _seconds(row["onset"], f"{where}: onset")
        offset = _seconds(row["offset"], f"{where}: offset")
        if offset <= onset:
            raise InputError(f"{where}: found the interval {onset} to {offset} s, expected onset < offset")
        earlier = intervals.setdefault(row["fileid"], [])
        if earlier and onset < earlier[-1].offset:
            raise InputError(
                f"{where}: found onset {onset} s before the {tier} interval above it ends at {earlier[-1].offset} s"
            )
        earlier.append(Interval(row["fileid"], onset, offset, row["label"], tier, row["speaker"]))
    return intervals


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: found {text!r}, expected a time in seconds")
    return value


@contextmanager
def interval_writer(path: Path) -> Iterator[Callable[[Iterable[Interval]], None]]:
    """Give a function that appends intervals to a new table; the file appears when the block ends well."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)

        def write(intervals: Iterable[Interval]) -> None:
            table.writerows(
                (i.fileid, format_seconds(i.onset), format_seconds(i.offset), i.label, i.tier, i.speaker)
                for i in intervals
            )

        yield write


def format_seconds(time_s: float) -> str:
    """The shortest decimal form that reads back as the same time, never with an exponent."""
    return np.format_float_positional(time_s, unique=True, trim="0")


def frame_labels(intervals: Sequence[Interval], num_frames: int, frame_rate_hz: float) -> list[str]:
    """One label a frame: that of the interval which holds the frame's centre (i + 1/2) / rate.

    An interval holds its onset and not its offset. Frames in no interval are ``SIL``.

    Args:
        intervals: Of one utterance and one tier, times rising.
    """
    if not intervals:
        return [SILENCE] * num_frames
    centres_s = (np.arange(num_frames) + 0.5) / frame_rate_hz
    onsets_s = np.array([interval.onset for interval in intervals])
    offsets_s = np.array([interval.offset for interval in intervals])
    index = np.searchsorted(onsets_s, centres_s, side="right") - 1
    held = (index >= 0) & (centres_s < offsets_s[index])
    return [intervals[i].label if inside else SILENCE for i, inside in zip(index, held, strict=True)]
