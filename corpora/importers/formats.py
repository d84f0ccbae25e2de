"""Which form an annotation has, told from its name or its first line, and its utterances."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from artifacts.errors import InputError
from corpora.importers import librispeech, textgrid, timit
from corpora.importers.item import is_header, read_item
from corpora.importers.jsonl import holds_words, read_frames, read_words
from corpora.importers.librispeech import read_alignment
from corpora.importers.source import Labelled, lines_of
from corpora.importers.textgrid import read_textgrid
from corpora.importers.timit import read_timit

Format = Literal["item", "textgrid", "timit", "frames", "words", "librispeech"]
FORMATS: tuple[Format, ...] = get_args(Format)
FRAME_RATE_HZ = 100.0
"""Of frame labels where nothing else is said: 10 ms, as phones are published."""

ENDINGS: dict[Format, tuple[str, ...]] = {
    "textgrid": (textgrid.SUFFIX,),
    "timit": tuple(timit.SUFFIXES),
    "librispeech": (librispeech.SUFFIX,),
}
"""How the names of files end that may lie in folders; capitals count as small letters."""
EXPECTED = (
    "expected an item file, a JSONL of frames or of words, or a TextGrid, .phn, .wrd or .alignment.txt file or a "
    "folder of such"
)


def infer(path: Path) -> Format:
    """The form of a file, or of the files in a folder, at any depth.

    Raises:
        InputError: There is nothing, it is none of the forms, or a folder has files of two.
    """
    if path.is_dir():
        found = {form for form, _ in _files(path, ENDINGS)}
        if len(found) > 1:
            raise InputError(f"{path}: found files of {' and '.join(sorted(found))}, expected one kind, or --format")
        if not found:
            raise InputError(f"{path}: found no annotation in the folder, {EXPECTED}")
        return found.pop()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    name = path.name.lower()
    for form, endings in ENDINGS.items():
        if name.endswith(endings):
            return form
    if name.endswith(".jsonl"):
        return "words" if holds_words(path) else "frames"
    if name.endswith(".item"):
        return "item"
    with lines_of(path) as lines:
        if is_header(next(lines, (1, ""))[1]):
            return "item"
    raise InputError(f"{path}: found neither a known extension nor the header of an item file, {EXPECTED}")


def read_annotations(path: Path, form: Format, frame_rate_hz: float = FRAME_RATE_HZ) -> Iterator[Labelled]:
    """Stream the utterances of a file or folder, one in memory at a time.

    Args:
        frame_rate_hz: Of ``frames``.

    Raises:
        InputError: A malformed file.
    """
    if path.is_dir() and form not in ENDINGS:
        raise InputError(f"{path}: found a folder, expected a file of {form}")
    if form == "item":
        yield from read_item(path)
    elif form == "frames":
        yield from read_frames(path, frame_rate_hz)
    elif form == "words":
        yield from read_words(path)
    else:
        files = (file for _, file in _files(path, {form: ENDINGS[form]})) if path.is_dir() else iter([path])
        for file in files:
            if form == "timit":
                yield read_timit(file)
            else:
                yield from read_textgrid(file) if form == "textgrid" else read_alignment(file)


def _files(folder: Path, endings: dict[Format, tuple[str, ...]]) -> Iterator[tuple[Format, Path]]:
    """Files of these forms, in an order that is the same everywhere."""
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            for form, ending in endings.items():
                if name.lower().endswith(ending):
                    yield form, Path(root) / name
