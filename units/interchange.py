"""Units for other programs and from them: five formats, any one into any other, line by line.

``units``
    Ours: ``{"fileid", "units", "durations"}``, without repetitions, durations in frames. See `units.records`.
``slamkit``
    ``{"units", "duration", "file_name"}``, without repetitions, durations in frames, ``file_name`` a path.
    SlamKit's ``cli/extract_features.py`` writes it (github.com/slp-rl/slamkit, example_data/features.jsonl) and its
    ``cli/prepare_tokens.py`` reads it, for which ``duration`` may be absent. Its tokeniser, told to keep repetitions
    (``dedup=False``), gives each a duration of 1.
``spidr``
    ``{"name", "units"}``, one unit a frame, ``name`` an utterance's. The paper's authors publish units of LibriSpeech
    dev so (github.com/facebookresearch/spidr, paper/results/units-*.jsonl.gz), and labels of 10 ms beside them.
``fastabx``
    ``{"audio", "units"}``, one unit a frame, ``audio`` a path. ``Dataset.from_item_and_units`` of fastabx reads it:
    the item file's ``#file`` is the path's last part without its extension.
``km``
    One unit a frame, a line an utterance, separated by spaces, no names: line i is utterance i of a manifest. fairseq's
    ``examples/hubert/simple_kmeans/dump_km_label.py`` writes it, ``fairseq/data/audio/hubert_dataset.py`` reads it.

Lines of ``slamkit`` and ``units`` without durations become each other, never a format of one unit a frame.
"""

import argparse
import json
import re
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path, PurePath, PurePosixPath
from tempfile import TemporaryFile
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from artifacts.errors import InputError, run
from artifacts.files import atomic_file, read_jsonl
from artifacts.progress import Progress
from corpora.audio import SAMPLE_RATE_HZ
from corpora.manifest import Utterance, read_manifest
from units.records import (
    UnitSequence,
    UntimedUnits,
    read_durations,
    read_untimed_units,
    require_record_keys,
    run_length,
    unit_writer,
    whole_numbers,
)

Format = Literal["units", "slamkit", "spidr", "fastabx", "km"]
NAME_KEYS: dict[Format, str] = {"slamkit": "file_name", "spidr": "name", "fastabx": "audio"}
PATHS = ("slamkit", "fastabx")
"""Formats that name an utterance by the path of its audio."""
KM_LINE = re.compile(r" *(?:[0-9]{1,19}(?: +|$))*")

TOLERANCE_SAMPLES = SAMPLE_RATE_HZ // 10
"""How far frames and audio may differ: 0.1 s, as in fairseq's ``verify_label_lengths``."""
TOLERANCE_SHARE = 1e-3
"""And this share of it: encoders that take long files in pieces lose up to a frame a piece (fairseq's are 100 s)."""


class Located(NamedTuple):
    """The units of one utterance, and the line they were read from."""

    line: int
    sequence: UntimedUnits


def stem(name: str) -> str:
    """A path's last part without its extension, by the rule of fastabx.

    >>> stem("dev/84-121123-0000.flac"), stem("84-121123-0000"), stem("v1.0.wav")
    ('84-121123-0000', '84-121123-0000', 'v1.0')
    """
    return re.sub(r"\.[^.]+$", "", name.rpartition("/")[2])


class Roster:
    """The utterances of a manifest, and which of them is meant by the path of an audio file."""

    def __init__(self, manifest: Path) -> None:
        self.path = manifest
        self.utterances = read_manifest(manifest)
        self.by_fileid = {utterance.fileid: utterance for utterance in self.utterances}
        self._by_stem: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            self._by_stem.setdefault(stem(utterance.path.name), []).append(utterance)

    def fileid(self, name: str, where: str) -> str:
        """The fileid that `name` is, or that of the path with its stem and most of its folders, from the file up.

        Raises:
            InputError: There is no such utterance, or several are equally near.
        """
        if name in self.by_fileid:
            return name
        found = self._by_stem.get(stem(name), [])
        if not found:
            raise InputError(f"{where}: found {name}, expected an utterance of {self.path}")
        likeness = [_likeness(PurePosixPath(name), utterance.path) for utterance in found]
        best = [utterance.fileid for utterance, like in zip(found, likeness, strict=True) if like == max(likeness)]
        if len(best) > 1:
            raise InputError(
                f"{where}: found {name}, which may be {best[0]} or {best[1]}, expected one utterance of {self.path}"
            )
        return best[0]


def _likeness(one: PurePath, other: PurePath) -> tuple[int, bool]:
    """How many folders two paths share, from the file up; then whether the extension is the same too."""
    pairs = zip(one.parts[-2::-1], other.parts[-2::-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), one.suffix == other.suffix


class FrameLength:
    """How many samples a frame has: the range that suits all utterances so far."""

    def __init__(self) -> None:
        self.least, self.most = 0.0, float("inf")

    def check(self, num_frames: int, num_samples: int, where: str) -> None:
        """Take in an utterance.

        Raises:
            InputError: It has more or fewer frames than its samples make by the utterances before it, or none.
        """
        slack = TOLERANCE_SAMPLES + TOLERANCE_SHARE * num_samples
        shortest, longest = max(0.0, num_samples - slack), num_samples + slack
        found = f"{where}: found {num_frames} frames for the {num_samples:,} samples of the manifest"
        if num_frames == 0:
            if shortest > 0:
                raise InputError(f"{found}, expected some")
            return
        if num_frames < shortest / self.most or (self.least > 0 and num_frames > longest / self.least):
            raise InputError(f"{found}, expected {self.least:.0f} to {self.most:.0f} samples a frame, as before it")
        self.least, self.most = max(self.least, shortest / num_frames), min(self.most, longest / num_frames)


def read_sequences(path: Path, form: Format, roster: Roster | None = None) -> Iterator[Located]:
    """Stream the utterances of a file of any format, in its order.

    Args:
        roster: Which utterances there may be, and of how many samples each; ``km`` needs it.

    Raises:
        InputError: A malformed line, an utterance twice or not in the manifest, frames that do not go with the
            samples; of ``km`` also more or fewer lines than utterances, or no manifest.
    """
    first_line: dict[str, int] = {}
    frame_length = FrameLength()
    for line, sequence in _read(path, form, roster):
        where, fileid = f"{path}, line {line}", sequence.fileid
        if fileid in first_line:
            hint = "; --manifest tells equal file names apart" if roster is None and form in PATHS else ""
            raise InputError(f"{where}: found {fileid} again, first on line {first_line[fileid]}{hint}")
        first_line[fileid] = line
        if roster is not None:
            if fileid not in roster.by_fileid:
                raise InputError(f"{where}: found {fileid}, expected an utterance of {roster.path}")
            if isinstance(sequence, UnitSequence):
                frame_length.check(sequence.num_frames, roster.by_fileid[fileid].num_samples, f"{where}: {fileid}")
        yield Located(line, sequence)


def _read(path: Path, form: Format, roster: Roster | None) -> Iterator[Located]:
    if form == "units":
        # One record a line.
        return (Located(line, sequence) for line, sequence in enumerate(read_untimed_units(path), start=1))
    if form == "km":
        return _read_km(path, _needed(roster))
    return (Located(line, _parse(f"{path}, line {line}", form, record, roster)) for line, record in read_jsonl(path))


def _needed(roster: Roster | None) -> Roster:
    if roster is None:
        raise InputError("--manifest: found none, expected one: the lines of km are its utterances, in its order")
    return roster


def _parse(where: str, form: Format, record: dict[str, Any], roster: Roster | None) -> UntimedUnits:
    key = NAME_KEYS[form]
    require_record_keys(record, (key, "units"), where)
    name = record[key]
    if not isinstance(name, str) or not stem(name):
        raise InputError(f"{where}: {key}: found {name!r}, expected a name")
    fileid = name
    if form in PATHS:
        fileid = stem(name) if roster is None else roster.fileid(name, where)
    units = whole_numbers(record["units"], 0, f"{where}: units")
    if form == "slamkit":
        if "duration" in record:
            durations = read_durations(record, "duration", units, where)
            return UnitSequence(fileid, *run_length(np.repeat(np.array(units, dtype=np.int64), durations)))
        if any(a == b for a, b in pairwise(units)):
            raise InputError(f"{where}: found a unit twice in a row and no duration, expected durations")
        return UntimedUnits(fileid, units)
    for timed in ("duration", "durations"):
        if timed in record:
            raise InputError(f"{where}: found {timed}, expected one unit a frame: {form} has no durations")
    return UnitSequence(fileid, *run_length(np.array(units, dtype=np.int64)))


def _read_km(path: Path, roster: Roster) -> Iterator[Located]:
    expected = f"expected {len(roster.utterances)}: one for each utterance of {roster.path}"
    line = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):
                where = f"{path}, line {line}"
                if line > len(roster.utterances):
                    raise InputError(f"{where}: found another line, {expected}")
                if not KM_LINE.fullmatch(text.rstrip()):
                    raise InputError(
                        f"{where}: found {text.strip()[:60]!r}, expected whole numbers from 0, separated by spaces"
                    )
                frames = np.array(whole_numbers([int(word) for word in text.split()], 0, where), dtype=np.int64)
                yield Located(line, UnitSequence(roster.utterances[line - 1].fileid, *run_length(frames)))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    if line < len(roster.utterances):
        raise InputError(f"{path}: found {line} lines, {expected}")


def write_sequences(
    path: Path, form: Format, sequences: Iterator[Located], source: Path, roster: Roster | None = None
) -> None:
    """Write a file of any format, streaming: in the order given, ``km`` in that of the manifest.

    Args:
        source: What the utterances were read from, for messages.
        roster: Gives ``slamkit`` the paths of the audio files, and ``km`` its order.

    Raises:
        InputError: An utterance without durations and a format of one unit a frame; a fileid that the format does not
            give back; of ``km`` also an utterance of the manifest without units, or no manifest.
    """
    if form == "units":
        with unit_writer(path) as write:
            for _, sequence in sequences:
                write(sequence)
    elif form == "km":
        _write_km(path, sequences, source, _needed(roster))
    else:
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for line, sequence in sequences:
                record = _record(f"{source}, line {line}", form, sequence, roster)
                # Byte for byte as they are published, should someone compare.
                separators = (",", ":") if form == "spidr" else (", ", ": ")
                file.write(json.dumps(record, ensure_ascii=False, separators=separators) + "\n")


def _record(where: str, form: Format, sequence: UntimedUnits, roster: Roster | None) -> dict[str, Any]:
    name = sequence.fileid
    if form == "slamkit" and roster is not None:
        name = str(roster.by_fileid[name].path)
    elif form in PATHS and stem(name) != name:
        raise InputError(
            f"{where}: found fileid {name}, expected one without folders and extension: "
            f"{form} takes it for {stem(name)!r}"
        )
    if form != "slamkit":
        return {NAME_KEYS[form]: name, "units": _frames(where, form, sequence).tolist()}
    timed = {"duration": sequence.durations} if isinstance(sequence, UnitSequence) else {}
    return {"units": sequence.units, **timed, "file_name": name}


def _frames(where: str, form: Format, sequence: UntimedUnits) -> np.ndarray:
    if not isinstance(sequence, UnitSequence):
        raise InputError(f"{where}: {sequence.fileid}: found no durations, expected them: {form} has one unit a frame")
    return sequence.frames()


def _write_km(path: Path, sequences: Iterator[Located], source: Path, roster: Roster) -> None:
    # Lines come in any order (SlamKit's by length): they are laid down once as they come, and once as they go.
    places: dict[str, int] = {}
    with atomic_file(path) as temporary, TemporaryFile(dir=path.parent) as laid, temporary.open("wb") as file:
        for line, sequence in sequences:
            frames = _frames(f"{source}, line {line}", "km", sequence)
            places[sequence.fileid] = laid.tell()
            laid.write(" ".join(map(str, frames.tolist())).encode() + b"\n")
        for utterance in roster.utterances:
            if utterance.fileid not in places:
                raise InputError(
                    f"{source}: found no {utterance.fileid}, expected all {len(roster.utterances)} utterances "
                    f"of {roster.path}"
                )
            laid.seek(places[utterance.fileid])
            file.write(laid.readline())


def convert(source: Path, source_form: Format, target: Path, target_form: Format, manifest: Path | None = None) -> None:
    """Convert a file of units, streaming.

    Raises:
        InputError: As `read_sequences` and `write_sequences`.
    """
    roster = None if manifest is None else Roster(manifest)
    try:
        with source.open("rb") as file:
            total = sum(1 for _ in file)
    except FileNotFoundError:
        raise InputError(f"{source}: no such file") from None
    with Progress(f"{source_form} to {target_form}", total, "utterances") as progress:

        def sequences() -> Iterator[Located]:
            for located in read_sequences(source, source_form, roster):
                yield located
                progress.advance()

        write_sequences(target, target_form, sequences(), source, roster)


def main() -> None:
    """Convert a file of units: units (ours), slamkit, spidr (its authors'), fastabx, km (fairseq's)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    forms = get_args(Format)
    parser.add_argument("--from", dest="source_form", choices=forms, required=True, help="format of the input")
    parser.add_argument("--to", dest="target_form", choices=forms, required=True, help="format of the output")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, help="CSV of the utterances: needed by km, checks the others")
    given = parser.parse_args()
    convert(given.input, given.source_form, given.output, given.target_form, given.manifest)


if __name__ == "__main__":
    run(main)
