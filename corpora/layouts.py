"""The layouts speech lies in: folders of recordings, LibriSpeech, Libri-Light, loose or in tar archives.

Those of evaluation sets are in `corpora.set_layouts`.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from artifacts.errors import InputError
from corpora import archives
from corpora.manifest import Member
from corpora.settings import FolderSettings, LibriLightSettings, LibriSpeechSettings

SUFFIXES = (".wav", ".flac")
AUDIO = " or ".join(SUFFIXES)
UNKNOWN_SPEAKER = "unknown"
"""Speaker of the files of a layout that names none."""


class Place(NamedTuple):
    """An audio file of a corpus, not yet opened."""

    fileid: str
    path: Path
    speaker: str
    member: Member | None = None
    """Where it lies in an archive; the path is then its name there, below the archive's."""


class Recording(NamedTuple):
    """An audio file: its path below the folder that was looked through, parts separated by `/`, and where it lies."""

    name: str
    path: Path
    member: Member | None


def some(names: Collection[str], most: int = 3) -> str:
    """How many names there are, and the first few of them."""
    first = sorted(names)[:most]
    return f"{len(names):,} ({', '.join(first)}{', ...' if len(names) > most else ''})"


def folder_places(settings: FolderSettings, folder: Path) -> Iterator[Place]:
    """The .wav and .flac files below `folder` that the settings take, in the order of their paths.

    Raises:
        InputError: There are none, two have one name, or a path names no speaker.
    """
    wanted, pattern = re.compile(settings.files), re.compile(settings.speaker_pattern)
    names: dict[str, str] = {}
    for name, path, member in recordings(folder):
        if not wanted.search(name):
            continue
        fileid = PurePosixPath(name).stem
        if fileid in names:
            raise InputError(f"{folder}: {names[fileid]} and {name} have one name, expected a name of its own each")
        names[fileid] = name
        match = pattern.search(name)
        if match is None or not match["speaker"]:
            raise InputError(f"{folder}: {name} names no speaker, expected a path like {settings.speaker_pattern}")
        yield Place(fileid, path, match["speaker"], member)
    if not names:
        which = f" with {settings.files!r} in its path" if settings.files else ""
        raise InputError(f"{folder}: found no {AUDIO} file{which}, expected speech")


LIBRISPEECH = re.compile(r"(?P<speaker>\d+)/(?P<chapter>\d+)/(?P<fileid>(?P=speaker)-(?P=chapter)-\d+)\.\w+")


def librispeech_places(settings: LibriSpeechSettings, folder: Path) -> Iterator[Place]:
    """The files of LibriSpeech's subsets: `<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`.

    Raises:
        InputError: A subset is missing or empty, or a file has another name.
    """
    for subset in settings.subsets:
        for name, path, member in _subset(folder, subset):
            match = LIBRISPEECH.fullmatch(name)
            if match is None:
                form = f"{subset}/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
                raise InputError(f"{path}: expected {form}, as in LibriSpeech")
            yield Place(match["fileid"], path, match["speaker"], member)


def librilight_places(settings: LibriLightSettings, folder: Path) -> Iterator[Place]:
    """The files of a subset of Libri-Light: `<part>/<speaker>/<book>/<file>.flac`, or pieces of them deeper down.

    The archives `small`, `medium` and `large` have no file in common; the subsets contain one another. The fileid is
    the path below the part, without extension: files of different books may have one name.

    Raises:
        InputError: A part is missing or empty, or a file lies elsewhere.
    """
    for part in settings.parts:
        for name, path, member in _subset(folder, part):
            speaker, slash, rest = name.partition("/")
            if not slash or "/" not in rest:
                raise InputError(f"{path}: expected {part}/<speaker>/<book>/<file>.flac, as in Libri-Light")
            yield Place(name.rpartition(".")[0], path, speaker, member)


def _subset(folder: Path, subset: str) -> Iterator[Recording]:
    """The audio of a subset of a corpus, named from the subset on, in its folder or in an archive of its name."""
    place = _existing(folder) / subset
    archive = folder / f"{subset}{archives.SUFFIX}"
    if not place.is_dir() and not archive.is_file():
        raise InputError(f"{folder}: found neither {subset}/ nor {archive.name}, expected the subset as one of them")
    empty = True
    for recording in recordings(place) if place.is_dir() else _in_archive(archive, ""):
        empty = False
        if place.is_dir():
            yield recording
            continue
        _, below, name = f"/{recording.name}".partition(f"/{subset}/")
        if not below:
            raise InputError(f"{archive}: found {recording.name}, expected all files to be in a folder {subset}")
        yield recording._replace(name=name)
    if empty:
        raise InputError(f"{place if place.is_dir() else archive}: found no {AUDIO} file, expected speech")


def recordings(folder: Path) -> Iterator[Recording]:
    """The .wav and .flac files below a folder, in the order of their paths, none kept in memory.

    An uncompressed archive `a.tar` is looked through as if it were a folder of that name, in its own order.

    Raises:
        InputError: There is no such folder, or an archive cannot be read.
    """
    yield from _below(_existing(folder), "")


def _below(folder: Path, prefix: str) -> Iterator[Recording]:
    with os.scandir(folder) as entries:
        # A folder's name with its slash: so a folder's files come where the whole path would be sorted in.
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
    for name in names:
        if name.endswith("/"):
            yield from _below(folder / name, prefix + name)
        elif name.lower().endswith(SUFFIXES):
            yield Recording(prefix + name, folder / name, None)
        elif name.lower().endswith(archives.SUFFIX):
            yield from _in_archive(folder / name, f"{prefix}{name}/")


def _in_archive(archive: Path, prefix: str) -> Iterator[Recording]:
    for name, member in archives.members(archive):
        if name.lower().endswith(SUFFIXES):
            yield Recording(prefix + name, archive / name, member)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return folder
