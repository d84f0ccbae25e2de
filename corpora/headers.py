"""How long each file of a corpus is: from headers alone, many at once, and each once though the job be killed."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from typing import IO, Any

from artifacts.progress import Progress
from corpora.audio import read_num_samples
from corpora.layouts import Place
from corpora.manifest import Member, Utterance

THREADS = 16
"""Headers read at once: a shared disk answers many questions as fast as one."""
CHUNK = 1024
"""Files held in memory at a time."""


class Listing:
    """The places of a corpus, found once, and kept on disk: Libri-Light has 219,041, cut in pieces millions.

    Attributes:
        count: Number of places.
        speakers: Who speaks.
        archives: Whether some lie in archives.
    """

    def __init__(self, file: IO[str], places: Iterable[Place]) -> None:
        self._file = file
        self.count, self.speakers, self.archives = 0, set[str](), False
        for place in places:
            _write_line(file, (place.fileid, str(place.path), place.speaker, *_bytes_of(place)))
            self.count += 1
            self.speakers.add(place.speaker)
            self.archives |= place.member is not None

    def __iter__(self) -> Iterator[Place]:
        self._file.seek(0)
        for line in self._file:
            fileid, path, speaker, *member = json.loads(line)
            yield Place(fileid, Path(path), speaker, Member(Path(member[0]), *member[1:]) if member else None)


@contextmanager
def listed(places: Iterable[Place], folder: Path) -> Iterator[Listing]:
    """The places as a listing, in a file in `folder` that has no name and goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as file:
        yield Listing(file, places)


def measure(listing: Listing, known: Path) -> Iterator[Utterance]:
    """The utterances at these places, in their order, their lengths read from the headers.

    Args:
        known: File that collects what has been read. It is read first, as far as it is of the same places in the same
            order, so that a job that was killed goes on where it was; it is deleted after the last place.

    Raises:
        InputError: A file is unreadable, empty, not 16 kHz or not mono.
    """
    known.touch()
    with (
        known.open("r+", encoding="utf-8") as file,
        ThreadPoolExecutor(THREADS) as pool,
        Progress("read headers", listing.count, "files") as progress,
    ):
        resumes = True
        for places in batched(listing, CHUNK):
            lengths = _recall(file, places) if resumes else []
            resumes = len(lengths) == len(places)
            for place, num_samples in zip(places, lengths, strict=False):
                yield _utterance(place, num_samples)
            new = places[len(lengths) :]
            for place, num_samples in zip(new, pool.map(_num_samples, new), strict=True):
                _write_line(file, (*_key(place), num_samples))
                yield _utterance(place, num_samples)
            file.flush()
            progress.advance(len(places))
    known.unlink()


def _recall(file: IO[str], places: Sequence[Place]) -> list[int]:
    """Lengths of the first of these places, as far as the file has them next; what it has after that is cut off."""
    lengths: list[int] = []
    for place in places:
        here = file.tell()
        line = file.readline()
        key, length = _parse(line)
        if key != _key(place):
            file.seek(here)
            file.truncate()
            break
        lengths.append(length)
    return lengths


def _parse(line: str) -> tuple[list[Any], int]:
    # The last line of a job that was killed may lack its end.
    *key, length = json.loads(line) if line.endswith("\n") else [0]
    return key, length


def _write_line(file: IO[str], values: Sequence[str | int]) -> None:
    file.write(json.dumps(values) + "\n")


def _bytes_of(place: Place) -> tuple[str | int, ...]:
    member = place.member
    return (str(member.archive), member.byte_offset, member.byte_size) if member else ()


def _key(place: Place) -> list[str | int]:
    return [str(place.path), *_bytes_of(place)]


def _num_samples(place: Place) -> int:
    return read_num_samples(place.path, place.member)


def _utterance(place: Place, num_samples: int) -> Utterance:
    return Utterance(place.fileid, place.path, num_samples, place.speaker, place.member)
