"""The layouts speech lies in: folders of recordings, ZeroSpeech 2021's sLM21 sets, TWIST's StoryCloze."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from artifacts.errors import InputError
from artifacts.files import read_csv
from artifacts.progress import Progress
from corpora.audio import read_num_samples
from corpora.manifest import Utterance
from corpora.settings import FolderSettings, ZeroSpeechSettings

SUFFIXES = (".wav", ".flac")
LEXICAL_COLUMNS = ("fileid", "id", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC_COLUMNS = ("fileid", "id", "voice", "type", "subtype", "transcription", "correct")
STORY_COLUMNS = ("fileid", "id", "correct")
UNKNOWN_SPEAKER = "unknown"
"""Speaker of the files of a layout that names none."""

Row = dict[str, Any]


class Place(NamedTuple):
    """An audio file of a corpus, not yet opened."""

    fileid: str
    path: Path
    speaker: str


def some(names: Collection[str], most: int = 3) -> str:
    """How many names there are, and the first few of them."""
    first = sorted(names)[:most]
    return f"{len(names):,} ({', '.join(first)}{', ...' if len(names) > most else ''})"


def folder_places(settings: FolderSettings, folder: Path) -> list[Place]:
    """The .wav and .flac files below `folder` that the settings take, in the order of their paths.

    Raises:
        InputError: There are none, two have one name, or a path names no speaker.
    """
    wanted, pattern = re.compile(settings.files), re.compile(settings.speaker_pattern)
    paths: dict[str, str] = {}
    for place in sorted(filter(wanted.search, _audio_files(folder))):
        fileid = Path(place).stem
        if fileid in paths:
            raise InputError(f"{folder}: {paths[fileid]} and {place} have one name, expected a name of its own each")
        paths[fileid] = place
    if not paths:
        which = f" with {settings.files!r} in its path" if settings.files else ""
        raise InputError(f"{folder}: found no {' or '.join(SUFFIXES)} file{which}, expected speech")
    places = []
    for fileid, place in paths.items():
        match = pattern.search(place)
        if match is None or not match["speaker"]:
            raise InputError(f"{folder}: {place} names no speaker, expected a path like {settings.speaker_pattern}")
        places.append(Place(fileid, folder / place, match["speaker"]))
    return places


def _audio_files(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(_existing(folder), followlinks=True):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return folder


def gold_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Columns of gold.csv for those of items.csv: sLM21 puts the file's name after the id."""
    _, identity, *rest = columns
    return (identity, "filename", *rest)


def zerospeech_items(settings: ZeroSpeechSettings, folder: Path) -> tuple[tuple[str, ...], list[Row]]:
    """Columns and rows of items.csv for one sLM21 set, in gold.csv's order.

    Raises:
        InputError: A malformed row or a doubled file name in gold.csv.
    """
    columns = LEXICAL_COLUMNS if settings.task == "lexical" else SYNTACTIC_COLUMNS
    gold = _existing(folder) / "gold.csv"
    items: dict[str, Row] = {}
    for line, row in read_csv(gold, gold_columns(columns)):
        fileid = row["filename"].removesuffix(".wav")
        if fileid in items:
            raise InputError(f"{gold}, line {line}: filename {fileid} again, expected it once")
        if row["correct"] not in {"0", "1"}:
            raise InputError(f"{gold}, line {line}: correct: found {row['correct']!r}, expected 0 or 1")
        items[fileid] = {column: row[column] for column in columns[1:]} | {"fileid": fileid}
    return columns, list(items.values())


STORY = re.compile(r"(?P<number>\d+)_(?P<id>.+)_(?P<kind>correct|incorrect)\.wav")


def story_items(folder: Path) -> tuple[tuple[str, ...], list[Row]]:
    """Columns and rows of items.csv for TWIST's StoryCloze, pair by pair, the correct story first.

    Raises:
        InputError: Stories without their other half, or numbers that are not 2k and 2k + 1.
    """
    pairs: dict[str, dict[str, tuple[int, str]]] = {}
    for name in sorted(path.name for path in _existing(folder).iterdir()):
        if match := STORY.fullmatch(name):
            number = int(match["number"])
            pairs.setdefault(match["id"], {})[match["kind"]] = number, name.removesuffix(".wav")
    if not pairs:
        raise InputError(f"{folder}: found no story, expected files <2k>_<id>_correct.wav, <2k+1>_<id>_incorrect.wav")
    broken = [
        identity
        for identity, pair in pairs.items()
        if len(pair) < 2 or pair["correct"][0] % 2 or pair["incorrect"][0] != pair["correct"][0] + 1
    ]
    if broken:
        raise InputError(
            f"{folder}: found {some(broken)} stories that are no pair <2k>_<id>_correct.wav, <2k+1>_<id>_incorrect.wav"
        )
    items = [
        {"fileid": pair[kind][1], "id": identity, "correct": correct}
        for identity, pair in sorted(pairs.items(), key=lambda entry: entry[1]["correct"])
        for kind, correct in (("correct", 1), ("incorrect", 0))
    ]
    return STORY_COLUMNS, items


def item_places(items: Sequence[Row], folder: Path) -> list[Place]:
    """The files of an evaluation set, in the order of its items; the speaker is the item's voice.

    Raises:
        InputError: Files are missing.
    """
    present = {path.name for path in folder.iterdir()}
    missing = [f"{item['fileid']}.wav" for item in items if f"{item['fileid']}.wav" not in present]
    if missing:
        raise InputError(f"{folder}: found no {some(missing)} of {len(items):,} files, expected all")
    return [
        Place(item["fileid"], folder / f"{item['fileid']}.wav", item.get("voice", UNKNOWN_SPEAKER)) for item in items
    ]


def measure(places: Sequence[Place]) -> Iterator[Utterance]:
    """The utterances at these places, their lengths read from the headers.

    Raises:
        InputError: A file is unreadable, empty, not 16 kHz or not mono.
    """
    with Progress("read headers", len(places), "files") as progress:
        for place in places:
            yield Utterance(place.fileid, place.path, read_num_samples(place.path), place.speaker)
            progress.advance()
