"""The manifest: which utterances a corpus has, where they lie, how long they are, who speaks."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import InputError
from artifacts.files import read_csv, write_csv

COLUMNS = ("fileid", "path", "num_samples", "speaker")
ARCHIVE_COLUMNS = ("archive", "byte_offset", "byte_size")
"""Of a corpus whose files lie in tar archives, wholly or partly; empty for a file that does not."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file lies in an uncompressed tar archive: `byte_size` bytes from `byte_offset` on."""

    archive: Path
    byte_offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """One audio file: 16 kHz, mono, one speaker.

    The path of one in an archive is its name there, below the archive's own path.
    """

    fileid: str
    path: Path
    num_samples: int
    speaker: str
    member: Member | None = None


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
        member = _member(folder, row, where)
        audio = member.archive / row["path"] if member else _absolute(folder, row["path"])
        utterances.append(Utterance(fileid, audio, int(row["num_samples"]), speaker, member))
    return utterances


def _absolute(folder: Path, path: str) -> Path:
    return Path(os.path.normpath(folder / path))


def _member(folder: Path, row: dict[str, str], where: str) -> Member | None:
    """The place in an archive that a row of the manifest names, if it names one."""
    if not any(row.get(column) for column in ARCHIVE_COLUMNS):
        return None
    for column in ARCHIVE_COLUMNS:
        value = row.get(column, "")
        if not value or (column != "archive" and not value.isdecimal()):
            expected = "an archive" if column == "archive" else "a number of bytes"
            raise InputError(f"{where}: {column}: found {value!r}, expected {expected}")
    return Member(_absolute(folder, row["archive"]), int(row["byte_offset"]), int(row["byte_size"]))


def _name(value: str, where: str) -> str:
    # Item files and submissions are space separated.
    if not value or any(character.isspace() for character in value):
        raise InputError(f"{where}: found {value!r}, expected a name without spaces")
    return value


def write_manifest(path: Path, utterances: Iterable[Utterance], *, archives: bool = False) -> None:
    """Write a manifest, as fast as the utterances come.

    An absolute audio path is written as it is; one relative to the working directory is written
    relative to the manifest's folder, so that a tree can be moved as a whole.

    Args:
        archives: Whether some of the utterances lie in archives.

    Raises:
        InputError: A fileid or a speaker has spaces.
        ValueError: An utterance lies in an archive, and `archives` does not say so.
    """
    folder = path.parent.resolve()
    here = Path.cwd().resolve()

    def written(place: Path) -> str:
        return str(place) if place.is_absolute() else os.path.relpath(here / place, folder)

    def rows() -> Iterator[dict[str, str | int]]:
        for utterance in utterances:
            member = utterance.member
            audio = utterance.path.relative_to(member.archive).as_posix() if member else written(utterance.path)
            packed: dict[str, str | int] = {}
            if member:
                values = (written(member.archive), member.byte_offset, member.byte_size)
                packed = dict(zip(ARCHIVE_COLUMNS, values, strict=True))
            yield {
                "fileid": _name(utterance.fileid, f"{utterance.path}: fileid"),
                "path": audio,
                "num_samples": utterance.num_samples,
                "speaker": _name(utterance.speaker, f"{utterance.path}: speaker"),
                **packed,
            }

    write_csv(path, COLUMNS + ARCHIVE_COLUMNS if archives else COLUMNS, rows())
