"""The manifest: which utterances a corpus has, where they lie, how long they are, who speaks."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import InputError
from artifacts.files import read_csv, write_csv

COLUMNS = ("fileid", "path", "num_samples", "speaker")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One audio file: 16 kHz, mono, one speaker."""

    fileid: str
    path: Path
    num_samples: int
    speaker: str


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a manifest in file order, their paths made absolute.

    Raises:
        InputError: A malformed row, or a fileid that occurs twice; the message names file and line.
    """
    # The folder is resolved once: `..` in a path must not climb out of a symbolic link.
    folder = path.resolve().parent
    utterances: list[Utterance] = []
    first_line: dict[str, int] = {}
    for line, row in read_csv(path, COLUMNS):
        where = f"{path}, line {line}"
        fileid, speaker = (_name(row[column], f"{where}: {column}") for column in ("fileid", "speaker"))
        if fileid in first_line:
            raise InputError(f"{where}: fileid {fileid} again, first on line {first_line[fileid]}")
        first_line[fileid] = line
        if not row["path"]:
            raise InputError(f"{where}: path: found nothing, expected a path")
        if not row["num_samples"].isdecimal() or int(row["num_samples"]) == 0:
            raise InputError(f"{where}: num_samples: found {row['num_samples']!r}, expected a positive integer")
        audio = Path(os.path.normpath(folder / row["path"]))
        utterances.append(Utterance(fileid, audio, int(row["num_samples"]), speaker))
    return utterances


def _name(value: str, where: str) -> str:
    # Item files and submissions are space separated.
    if not value or any(character.isspace() for character in value):
        raise InputError(f"{where}: found {value!r}, expected a name without spaces")
    return value


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest.

    An absolute audio path is written as it is; one relative to the working directory is written
    relative to the manifest's folder, so that a tree can be moved as a whole.

    Raises:
        InputError: A fileid or a speaker has spaces.
    """
    folder = path.parent.resolve()
    here = Path.cwd().resolve()

    def rows() -> Iterator[dict[str, str | int]]:
        for utterance in utterances:
            audio = str(utterance.path)
            if not utterance.path.is_absolute():
                audio = os.path.relpath(here / utterance.path, folder)
            yield {
                "fileid": _name(utterance.fileid, f"{utterance.path}: fileid"),
                "path": audio,
                "num_samples": utterance.num_samples,
                "speaker": _name(utterance.speaker, f"{utterance.path}: speaker"),
            }

    write_csv(path, COLUMNS, rows())
