"""The layouts evaluation sets lie in: sLM21, prosAudit, TWIST's StoryClozes, SlamKit's folders, SALMon, a pairs table.

Each reader gives the items of a set, a row for each stimulus with `correct` 1 or 0, and the file of each; what is
missing on disk is told at once, for the whole set.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from artifacts.errors import InputError
from artifacts.files import read_csv
from corpora.layouts import SUFFIXES, UNKNOWN_SPEAKER, Place, some
from corpora.settings import (
    SALMON_TASKS,
    PairsSettings,
    ProsAuditSettings,
    SalmonSettings,
    SetAt,
    SlamkitSettings,
    ZeroSpeechSettings,
    locate,
)

LEXICAL_COLUMNS = ("fileid", "id", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC_COLUMNS = ("fileid", "id", "voice", "type", "subtype", "transcription", "correct")
PROSODIC_COLUMNS = ("fileid", "id", "voice", "type", "subtype", "correct")
STORY_COLUMNS = ("fileid", "id", "correct")
SLAMKIT_COLUMNS = ("fileid", "id", "group", "correct")
SALMON_COLUMNS = ("fileid", "task", "id", "correct")
PAIRS_COLUMNS = ("id", "positive", "negative")

Row = dict[str, Any]


class EvaluationSet(NamedTuple):
    """What an evaluation set has, and where.

    Attributes:
        folder: What holds it.
        columns: Of items.csv.
        items: Its rows, one a stimulus; a file may be a stimulus of several items of a pairs table.
        files: The file of each fileid, not yet looked for.
    """

    folder: Path
    columns: Sequence[str]
    items: Sequence[Row]
    files: Mapping[str, Path]


def read_set(settings: SetAt, source: Path | None) -> EvaluationSet:
    """The items of an evaluation set and the files it should have.

    Raises:
        InputError: A malformed table, or files that make no pairs.
    """
    folder = locate(settings.path, "path", source)
    match settings:
        case ZeroSpeechSettings():
            columns = LEXICAL_COLUMNS if settings.task == "lexical" else SYNTACTIC_COLUMNS
            return gold_set(folder / settings.task / settings.split, columns)
        case ProsAuditSettings():
            return gold_set(folder / "english" / settings.split, PROSODIC_COLUMNS)
        case SlamkitSettings():
            return slamkit_set(folder)
        case SalmonSettings():
            return salmon_set(folder)
        case PairsSettings():
            return pairs_set(locate(settings.table, "table", source), folder)
        case _:
            return story_set(folder)


def set_places(found: EvaluationSet) -> list[Place]:
    """The files of an evaluation set, in the order of its items; the speaker is the item's voice.

    Raises:
        InputError: Files are missing; all are counted.
    """
    present = {folder: _names(folder) for folder in {path.parent for path in found.files.values()}}
    missing = [path for path in found.files.values() if path.name not in present[path.parent]]
    if missing:
        names = [str(path.relative_to(found.folder) if path.is_relative_to(found.folder) else path) for path in missing]
        raise InputError(f"{found.folder}: found no {some(names)} of {len(found.files):,} files, expected all")
    voices = {item["fileid"]: item.get("voice", UNKNOWN_SPEAKER) for item in found.items}
    return [Place(fileid, path, voices[fileid]) for fileid, path in found.files.items()]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return folder


def gold_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Columns of gold.csv for those of items.csv: ZeroSpeech puts the file's name after the id."""
    _, identity, *rest = columns
    return (identity, "filename", *rest)


def gold_set(folder: Path, columns: Sequence[str]) -> EvaluationSet:
    """A set with ZeroSpeech's gold.csv (sLM21, prosAudit), in its order.

    Args:
        columns: Of items.csv.

    Raises:
        InputError: A malformed row or a doubled file name in gold.csv.
    """
    gold = _existing(folder) / "gold.csv"
    items: dict[str, Row] = {}
    for line, row in read_csv(gold, gold_columns(columns)):
        fileid = row["filename"].removesuffix(".wav")
        if fileid in items:
            raise InputError(f"{gold}, line {line}: filename {fileid} again, expected it once")
        if row["correct"] not in {"0", "1"}:
            raise InputError(f"{gold}, line {line}: correct: found {row['correct']!r}, expected 0 or 1")
        items[fileid] = {column: row[column] for column in columns[1:]} | {"fileid": fileid}
    if not items:
        raise InputError(f"{gold}: no rows, expected items")
    return EvaluationSet(folder, columns, list(items.values()), {fileid: folder / f"{fileid}.wav" for fileid in items})


STORY = re.compile(r"(?P<number>\d+)_(?P<id>.+)_(?P<kind>correct|incorrect)\.wav")


def story_set(folder: Path) -> EvaluationSet:
    """TWIST's spoken StoryCloze (tSC, sSC), pair by pair, the correct story first.

    A story whose other half is not there is an item all the same, so that the half is missed.

    Raises:
        InputError: There is no story, a correct one has an odd number or an incorrect one an even, an id occurs twice.
    """
    pairs: set[tuple[int, str]] = set()
    present: list[str] = []
    for name in sorted(_names(_existing(folder))):
        if match := STORY.fullmatch(name):
            even = int(match["number"]) - (match["kind"] == "incorrect")
            if even % 2:
                raise InputError(f"{folder}: found {name}, expected {STORIES}")
            pairs.add((even, match["id"]))
            present += [match["id"]] if match["kind"] == "correct" else []
    if not pairs:
        raise InputError(f"{folder}: found no story, expected {STORIES}")
    if twice := {identity for identity, count in Counter(present).items() if count > 1}:
        raise InputError(f"{folder}: found {some(twice)} ids of several correct stories, expected one each")
    items: list[Row] = [
        {"fileid": f"{even + 1 - correct}_{identity}_{kind}", "id": identity, "correct": correct}
        for even, identity in sorted(pairs)
        for kind, correct in (("correct", 1), ("incorrect", 0))
    ]
    return EvaluationSet(
        folder, STORY_COLUMNS, items, {item["fileid"]: folder / f"{item['fileid']}.wav" for item in items}
    )


STORIES = "files <2k>_<id>_correct.wav, <2k+1>_<id>_incorrect.wav"
NUMBERED = re.compile(r"(?P<number>\d+)(?!\d).*\.wav")


def slamkit_set(folder: Path) -> EvaluationSet:
    """SlamKit's folders: the file that starts with the number 2k against that with 2k + 1, in one folder or in several.

    SlamKit sorts the files by number and takes them two by two, so that one missing file would turn every later pair
    around; here the numbers themselves make the pairs. The group of an item is its folder's name.

    Raises:
        InputError: There are no such files, or in both the folder and its subfolders; a number stands twice or alone.
    """
    inside = [path for path in sorted(_existing(folder).iterdir()) if path.is_dir() and _numbered(path)]
    if bool(inside) == bool(_numbered(folder)):
        where = "both in it and in its subfolders" if inside else "none"
        raise InputError(
            f"{folder}: found {where}, expected files that start with a number, <2k>...wav and <2k+1>...wav, "
            "in the folder or in its subfolders"
        )
    items: list[Row] = []
    files: dict[str, Path] = {}
    for place in inside or [folder]:
        numbers = _numbered(place)
        alone = [f"{names[0]} without {number ^ 1}" for number, names in numbers.items() if number ^ 1 not in numbers]
        twice = [" and ".join(names) for names in numbers.values() if len(names) > 1]
        if alone or twice:
            raise InputError(f"{place}: found {some(alone or twice)}, expected one file each of numbers 2k and 2k + 1")
        for number, (name,) in sorted(numbers.items()):
            fileid = _fileid(Path(place.name, name) if inside else Path(name))
            identity = _fileid(Path(place.name, str(number // 2)) if inside else Path(str(number // 2)))
            items.append({"fileid": fileid, "id": identity, "group": place.name, "correct": 1 - number % 2})
            files[fileid] = place / name
    return EvaluationSet(folder, SLAMKIT_COLUMNS, items, files)


def _numbered(folder: Path) -> dict[int, list[str]]:
    """The files of a folder that start with a number, by number."""
    numbers: dict[int, list[str]] = {}
    for name in sorted(_names(folder)):
        if match := NUMBERED.fullmatch(name):
            numbers.setdefault(int(match["number"]), []).append(name)
    return numbers


SAMPLE = re.compile(r"sample_(?P<id>\d+)_(?P<which>\d+)\.wav")


def salmon_set(folder: Path) -> EvaluationSet:
    """SALMon: `<task>/sample_<id>_0.wav`, the consistent or aligned one, against the other of that id.

    Raises:
        InputError: A task is not there, or an id has more than two files.
    """
    if missing := [task for task in SALMON_TASKS if not (_existing(folder) / task).is_dir()]:
        raise InputError(f"{folder}: found no {some(missing)} of {len(SALMON_TASKS)} tasks, expected a folder each")
    items: list[Row] = []
    files: dict[str, Path] = {}
    for task in SALMON_TASKS:
        samples: dict[int, set[int]] = {}
        for name in _names(folder / task):
            if match := SAMPLE.fullmatch(name):
                samples.setdefault(int(match["id"]), set()).add(int(match["which"]))
        if not samples:
            raise InputError(f"{folder / task}: found no sample, expected files sample_<id>_0.wav, sample_<id>_1.wav")
        if many := [f"sample_{number}" for number, which in samples.items() if len(which - {0}) > 1]:
            raise InputError(f"{folder / task}: found {some(many)} of more than two files, expected pairs")
        for number, which in sorted(samples.items()):
            for option, correct in ((0, 1), (max(which) or 1, 0)):
                fileid = f"{task}-sample_{number}_{option}"
                items.append({"fileid": fileid, "task": task, "id": str(number), "correct": correct})
                files[fileid] = folder / task / f"sample_{number}_{option}.wav"
    return EvaluationSet(folder, SALMON_COLUMNS, items, files)


def pairs_set(table: Path, folder: Path) -> EvaluationSet:
    """Any pairs: a CSV with `id,positive,negative`, perhaps `voice`, and further columns that group the pairs.

    Positive and negative are paths below `folder`, or fileids: paths without their extension. An item has one pair a
    voice. A file may be of several pairs.

    Raises:
        InputError: A row is no pair or stands twice, a column has a reserved name, or two files would have one fileid.
    """
    items: list[Row] = []
    files: dict[str, Path] = {}
    columns: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, row in read_csv(table, PAIRS_COLUMNS):
        where = f"{table}, line {line}"
        columns = [column for column in row if column not in PAIRS_COLUMNS]
        if reserved := {"fileid", "correct"} & set(columns):
            raise InputError(f"{where}: found a column {min(reserved)}, expected other names for groups of pairs")
        identity = (row["id"], row.get("voice", ""))
        if identity in seen:
            raise InputError(
                f"{where}: id {' and voice '.join(filter(None, identity))} again, first on {seen[identity]}"
            )
        seen[identity] = line
        for column, correct in (("positive", 1), ("negative", 0)):
            if not row[column]:
                raise InputError(f"{where}: {column}: found nothing, expected a path or a fileid")
            path = _audio(folder, row[column])
            fileid = _fileid(Path(row[column]))
            if files.setdefault(fileid, path) != path:
                raise InputError(
                    f"{where}: {files[fileid]} and {path} would both be {fileid}, expected names that differ"
                )
            items.append({"fileid": fileid, "id": row["id"], **{c: row[c] for c in columns}, "correct": correct})
        if items[-1]["fileid"] == items[-2]["fileid"]:
            raise InputError(f"{where}: found {row['positive']} as positive and negative, expected two files")
    if not items:
        raise InputError(f"{table}: no rows, expected pairs")
    return EvaluationSet(folder, ("fileid", "id", *columns, "correct"), items, files)


def _audio(folder: Path, name: str) -> Path:
    """The file of a path or a fileid; of a fileid's files that are not there it would be the first."""
    if name.lower().endswith(SUFFIXES):
        return folder / name
    candidates = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next(filter(Path.is_file, candidates), candidates[0])


def _fileid(path: Path) -> str:
    """A path without extension as one name: folders are parted from the file by hyphens."""
    stem = path.with_suffix("") if path.name.lower().endswith(SUFFIXES) else path
    return "-".join(part for part in stem.parts if part not in ("/", ".."))
