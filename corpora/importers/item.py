"""ZeroSpeech's item files of single phones, and alignments in the same columns (discophon's, without the last three).

``#file onset offset #phone prev-phone next-phone speaker``, separated by spaces, times in seconds; some tools write
``talker`` for ``speaker``. An item of three phones, as ``triphone.item`` has them, tells where its middle phone is to
no one: such files serve ABX as they are, and are refused here.
"""

from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from artifacts.errors import InputError
from corpora.importers.source import Labelled, Span, lines_of, seconds

REQUIRED = ("file", "onset", "offset", "phone")


class Row(NamedTuple):
    """One item, and the phone that its row names before it, if any."""

    where: str
    name: str
    span: Span
    previous: str | None
    speaker: str | None


def is_header(line: str) -> bool:
    """Whether a line names the columns of an item file."""
    return line.startswith("#file") and set(REQUIRED) <= set(_columns(line))


def read_item(path: Path) -> Iterator[Labelled]:
    """Stream the utterances of an item file, whose rows stand together.

    Raises:
        InputError: No header, a malformed row, or items of three phones; the message names file and line.
    """
    for (name, speaker), group in groupby(_rows(path), key=lambda row: (row.name, row.speaker)):
        rows = list(group)
        for first, second in pairwise(sorted(rows, key=lambda row: row.span)):
            if second.span.onset < first.span.offset and second.previous == first.span.label:
                raise InputError(
                    f"{second.where}: found an item that begins within the phone before it, as items of three phones "
                    f"do, expected items of one phone; of three they go to eval.abx --item as they are"
                )
        yield Labelled(name, "phones", [row.span for row in rows], speaker)


def _rows(path: Path) -> Iterator[Row]:
    with lines_of(path) as lines:
        _, header = next(lines, (1, ""))
        if not is_header(header):
            raise InputError(f"{path}, line 1: found {header[:60]!r}, expected #file onset offset #phone ...")
        columns = _columns(header)
        for line, text in lines:
            where = f"{path}, line {line}"
            fields = text.split()
            if len(fields) != len(columns):
                raise InputError(f"{where}: found {len(fields)} fields, expected {len(columns)}: {header}")
            row = dict(zip(columns, fields, strict=True))
            onset, offset = (seconds(row[column], f"{where}: {column}") for column in ("onset", "offset"))
            speaker = row.get("speaker", row.get("talker"))
            yield Row(where, row["file"], Span(onset, offset, row["phone"]), row.get("prev-phone"), speaker)


def _columns(header: str) -> list[str]:
    return [column.removeprefix("#") for column in header.split()]
