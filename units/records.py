"""Units: one utterance a line of JSON, run-length encoded.

``{"fileid": "61-70968-0003", "units": [5, 17, 5], "durations": [2, 1, 4]}``: the sequence without
repetitions is what the language model reads; the durations, in frames, add up to the utterance's
frames and give them back to the metrics of frames (ABX on units, PNMI). Units from elsewhere may have
no durations: such lines serve language models and nothing else. The units of a text carry it, as ``"text"``: they
are tokens, of which one may follow itself.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from artifacts.errors import InputError
from artifacts.files import atomic_file, read_json_object, read_jsonl

KEYS = ("fileid", "units", "durations")
LARGEST = 2**63 - 1
"""Of what numpy counts with."""


@dataclass(frozen=True, slots=True)
class UntimedUnits:
    """The units of one utterance, no two neighbours equal; how long they last nobody may know."""

    fileid: str
    units: list[int]


@dataclass(frozen=True, slots=True)
class TextUnits(UntimedUnits):
    """The tokens of a text, as they are, and the text."""

    text: str


@dataclass(frozen=True, slots=True)
class UnitSequence(UntimedUnits):
    """The units of one utterance, no two neighbours equal, and how many frames each lasts."""

    durations: list[int]

    def frames(self) -> np.ndarray:
        """One unit a frame, int64 (frames,)."""
        return np.repeat(np.array(self.units, dtype=np.int64), self.durations)

    def timed(self, frame_rate_hz: float) -> list[tuple[float, float, int]]:
        """Onset, offset (seconds) and unit of each run: frame i lasts from i / rate to (i + 1) / rate."""
        edges_s = [frame / frame_rate_hz for frame in accumulate(self.durations, initial=0)]
        return [(*edges, unit) for edges, unit in zip(pairwise(edges_s), self.units, strict=True)]

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
    return Vocabulary(
        int(_positive(config, "num_units", (int,), path)),
        float(_positive(config, "frame_rate_hz", (int, float), path)),
    )


def read_num_units(path: Path) -> int:
    """The number of units alone, which is all that text has: its units have no frame rate.

    Raises:
        InputError: It is missing or no positive whole number.
    """
    return int(_positive(read_json_object(path), "num_units", (int,), path))


def _positive(config: Mapping[str, Any], key: str, kinds: Sequence[type], path: Path) -> int | float:
    found: Any = config.get(key)
    if type(found) not in kinds or not found > 0:
        what = "whole number" if float not in kinds else "number"
        raise InputError(f"{path}: {key}: found {found!r}, expected a positive {what}")
    positive: int | float = found
    return positive


def run_length(frames: np.ndarray) -> tuple[list[int], list[int]]:
    """The units without repetitions, and the length in frames of each run, of units one a frame, (frames,).

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
    for sequence in _read(path, KEYS):
        assert isinstance(sequence, UnitSequence)
        yield sequence


def read_untimed_units(path: Path) -> Iterator[UntimedUnits]:
    """Stream the utterances of a file of units whose lines may have no durations; those that do are `UnitSequence`,
    those of a text `TextUnits`.

    Raises:
        InputError: As `read_units`.
    """
    return _read(path, KEYS[:2])


def _read(path: Path, keys: Sequence[str]) -> Iterator[UntimedUnits]:
    first_line: dict[str, int] = {}
    for line, record in read_jsonl(path):
        where = f"{path}, line {line}"
        require_record_keys(record, keys, where)
        fileid = record["fileid"]
        if not isinstance(fileid, str) or not fileid:
            raise InputError(f"{where}: fileid: found {fileid!r}, expected a name")
        if fileid in first_line:
            raise InputError(f"{where}: fileid {fileid} again, first on line {first_line[fileid]}")
        first_line[fileid] = line
        units = whole_numbers(record["units"], 0, f"{where}: units")
        if isinstance(record.get("text"), str) and "durations" not in record:
            yield TextUnits(fileid, units, record["text"])
            continue
        durations = None
        if "durations" in record:
            durations = read_durations(record, "durations", units, where)
        if any(a == b for a, b in pairwise(units)):
            raise InputError(f"{where}: found a unit twice in a row, expected run-length encoded units")
        yield UntimedUnits(fileid, units) if durations is None else UnitSequence(fileid, units, durations)


def require_record_keys(record: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise an `InputError` that names `where` unless a record has all of `keys`."""
    missing = [key for key in keys if key not in record]
    if missing:
        raise InputError(f"{where}: found keys {', '.join(record) or 'none'}, expected also {', '.join(missing)}")


def whole_numbers(values: Any, least: int, where: str) -> list[int]:
    """The list of whole numbers from `least` on that `values` must be; anything else is an `InputError`."""
    # `type` and not isinstance: true and false are no units.
    if not isinstance(values, list) or any(type(value) is not int or not least <= value <= LARGEST for value in values):
        raise InputError(f"{where}: found {str(values)[:60]}, expected a list of whole numbers from {least}")
    return values


def read_durations(record: Mapping[str, Any], key: str, units: Sequence[int], where: str) -> list[int]:
    """The durations that `key` of a record must be: a positive number of frames for each of `units`.

    Raises:
        InputError: They are not.
    """
    durations = whole_numbers(record[key], 1, f"{where}: {key}")
    if len(units) != len(durations):
        raise InputError(f"{where}: found {len(durations)} durations, expected one for each of {len(units)} units")
    return durations


@contextmanager
def unit_writer(path: Path) -> Iterator[Callable[[UntimedUnits], None]]:
    """Yield a function that writes one utterance; the file appears when the block ends well."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def write(sequence: UntimedUnits) -> None:
            record: dict[str, Any] = {"fileid": sequence.fileid, "units": sequence.units}
            if isinstance(sequence, UnitSequence):
                record["durations"] = sequence.durations
            if isinstance(sequence, TextUnits):
                record["text"] = sequence.text
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

        yield write


def write_units(path: Path, sequences: Iterable[UntimedUnits]) -> None:
    """Write a file of units, streaming."""
    with unit_writer(path) as write:
        for sequence in sequences:
            write(sequence)
