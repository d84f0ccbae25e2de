"""TIMIT's ``.phn`` and ``.wrd`` files: ``onset offset label`` a line, in samples at 16 kHz, one file an utterance."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from artifacts.errors import InputError
from corpora.annotations import Tier
from corpora.audio import SAMPLE_RATE_HZ
from corpora.importers.source import Labelled, Span, lines_of

SUFFIXES: dict[str, Tier] = {".phn": "phones", ".wrd": "words"}


def read_timit(path: Path) -> Labelled:
    """The phones or the words of one utterance, by the file's extension in either case.

    Raises:
        InputError: Another extension, or a malformed line; the message names file and line.
    """
    tier = SUFFIXES.get(path.suffix.lower())
    if tier is None:
        raise InputError(f"{path}: found the extension {path.suffix!r}, expected {' or '.join(SUFFIXES)}")
    spans = []
    with lines_of(path) as lines:
        for line, text in lines:
            fields = text.split(maxsplit=2)
            if len(fields) != 3 or not all(field.isdecimal() for field in fields[:2]):
                raise InputError(
                    f"{path}, line {line}: found {text[:60]!r}, expected two numbers of samples and a label"
                )
            spans.append(Span(int(fields[0]) / SAMPLE_RATE_HZ, int(fields[1]) / SAMPLE_RATE_HZ, fields[2]))
    return Labelled(str(path.with_suffix("")), tier, _parted(spans) if tier == "words" else spans)


def _parted(words: Sequence[Span]) -> list[Span]:
    """Words that share a phone with the next ("had your") end where the next begins: TIMIT gives it to both."""
    return [
        word._replace(offset=after.onset)
        if after is not None and word.onset < after.onset < word.offset <= after.offset
        else word
        for word, after in zip_longest(words, words[1:])
    ]
