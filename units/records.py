"""Units: one utterance a line of JSON, run-length encoded.

``{"fileid": "61-70968-0003", "units": [5, 17, 5], "durations": [2, 1, 4]}``: the sequence without
repetitions is what the language model reads; the durations, in frames, add up to the utterance's
frames and give them back to the metrics of frames (ABX on units, PNMI).
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from artifacts.errors import InputError
from artifacts.files import atomic_file, read_json_object, read_jsonl

KEYS = ("fileid", "units", "durations")


@dataclass(frozen=True, slots=True)
class UnitSequence:
    """The units of one utterance, no two neighbours equal, and how many frames each lasts."""

    fileid: str
    units: list[int]
    durations: list[int]

    def frames(self) -> np.ndarray:
        """One unit a frame, int64 (frames,)."""
        return np.repeat(np.array(self.units, dtype=np.int64), self.durations)

    @property
    def num_frames(self) -> int:
        """Number of frames of the utterance."""
        return sum(self.durations)


class Vocabulary(NamedTuple):
    """How many units there are, and how many frames a second they label."""

    num_units: int
    frame_rate_hz: float


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary from the config.json of a quantizer, or of the encoder ``phones``.

    Raises:
        InputError: A number is missing or not positive, or there is a fraction of a unit.
    """
    config = read_json_object(path)
    for key, kinds, what in (("num_units", (int,), "whole number"), ("frame_rate_hz", (int, float), "number")):
        found: Any = config.get(key)
        if type(found) not in kinds or not found > 0:
            raise InputError(f"{path}: {key}: found {found!r}, expected a positive {what}")
    return Vocabulary(config["num_units"], float(config["frame_rate_hz"]))


def run_length(frames: np.ndarray) -> tuple[list[int], list[int]]:
    """The units without repetitions, and the length in frames of each run.

    >>> run_length(np.array([5, 5, 17, 5]))
    ([5, 17, 5], [2, 1, 1])
    """
    if len(frames) == 0:
        return [], []
    starts = np.flatnonzero(np.r_[True, frames[1:] != frames[:-1]])
    return frames[starts].tolist(), np.diff(starts, append=len(frames)).tolist()


def read_units(path: Path) -> Iterator[UnitSequence]:
    """Stream the utterances of a file of units.

    Raises:
        InputError: A malformed record or a fileid that occurs twice; the message names file and line.
    """
    first_line: dict[str, int] = {}
    for line, record in read_jsonl(path):
        where = f"{path}, line {line}"
        missing = [key for key in KEYS if key not in record]
        if missing:
            raise InputError(f"{where}: found keys {', '.join(record) or 'none'}, expected also {', '.join(missing)}")
        fileid = record["fileid"]
        if not isinstance(fileid, str) or not fileid:
            raise InputError(f"{where}: fileid: found {fileid!r}, expected a name")
        if fileid in first_line:
            raise InputError(f"{where}: fileid {fileid} again, first on line {first_line[fileid]}")
        first_line[fileid] = line
        units = _whole_numbers(record["units"], 0, f"{where}: units")
        durations = _whole_numbers(record["durations"], 1, f"{where}: durations")
        if len(units) != len(durations):
            raise InputError(f"{where}: found {len(durations)} durations, expected one for each of {len(units)} units")
        if any(a == b for a, b in pairwise(units)):
            raise InputError(f"{where}: found a unit twice in a row, expected run-length encoded units")
        yield UnitSequence(fileid, units, durations)


def _whole_numbers(values: Any, least: int, where: str) -> list[int]:
    # `type` and not isinstance: true and false are no units.
    if not isinstance(values, list) or any(type(value) is not int or value < least for value in values):
        raise InputError(f"{where}: found {str(values)[:60]}, expected a list of whole numbers from {least}")
    return values


@contextmanager
def unit_writer(path: Path) -> Iterator[Callable[[UnitSequence], None]]:
    """Yield a function that writes one utterance; the file appears when the block ends well."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def write(sequence: UnitSequence) -> None:
            record = {"fileid": sequence.fileid, "units": sequence.units, "durations": sequence.durations}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

        yield write


def write_units(path: Path, sequences: Iterable[UnitSequence]) -> None:
    """Write a file of units, streaming."""
    with unit_writer(path) as write:
        for sequence in sequences:
            write(sequence)
