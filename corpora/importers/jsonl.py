"""Annotations in JSONL: a line an utterance with one phone a frame, or a line a word.

``{"name": "116-288045-0000", "phones": ["SIL", "AE", "AE", "Z"]}``, as the authors of SpidR publish the phones of
LibriSpeech dev, 100 frames a second; ``{"fileid", "speaker", "onset", "offset", "transcription"}``, as speech-map has
its words, of which those of an utterance stand together.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from artifacts.errors import InputError
from artifacts.files import read_jsonl
from corpora.importers.source import Labelled, Span, seconds

NAME_KEYS = ("fileid", "name", "audio", "file")
FRAME_KEYS = ("phones", "labels")
WORD_KEYS = ("transcription", "word", "label")


class Word(NamedTuple):
    """One line of a word JSONL."""

    name: str
    span: Span
    speaker: str | None


def holds_words(path: Path) -> bool:
    """Whether the first line has the times of a word, and not the labels of frames.

    Raises:
        InputError: It has neither, or there is no line.
    """
    for line, record in read_jsonl(path):
        if "onset" in record:
            return True
        _one_of(record, FRAME_KEYS, f"{path}, line {line}")
        return False
    raise InputError(f"{path}: empty, expected annotations")


def read_frames(path: Path, frame_rate_hz: float) -> Iterator[Labelled]:
    """Stream utterances with one phone a frame: frame i lasts from i / rate to (i + 1) / rate.

    Neighbours with one label become one interval: two equal phones in a row are told from a long one by no frame.

    Raises:
        InputError: A malformed line; the message names file and line.
    """
    for line, record in read_jsonl(path):
        where = f"{path}, line {line}"
        key = _one_of(record, FRAME_KEYS, where)
        labels = record[key]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(f"{where}: {key}: found {str(labels)[:60]}, expected a list of labels, one a frame")
        spans = []
        end = 0
        for label, run in groupby(labels):
            start, end = end, end + len(list(run))
            spans.append(Span(start / frame_rate_hz, end / frame_rate_hz, label))
        yield Labelled(_name(record, where), "phones", spans, covers_s=len(labels) / frame_rate_hz)


def read_words(path: Path) -> Iterator[Labelled]:
    """Stream the words of utterances.

    Raises:
        InputError: A malformed line; the message names file and line.
    """
    for (name, speaker), group in groupby(_words(path), key=lambda word: (word.name, word.speaker)):
        yield Labelled(name, "words", [word.span for word in group], speaker)


def _words(path: Path) -> Iterator[Word]:
    for line, record in read_jsonl(path):
        where = f"{path}, line {line}"
        label = _text(record, _one_of(record, WORD_KEYS, where), where)
        onset, offset = (seconds(record.get(key), f"{where}: {key}") for key in ("onset", "offset"))
        speaker = _text(record, "speaker", where) if "speaker" in record else None
        yield Word(_name(record, where), Span(onset, offset, label), speaker)


def _name(record: dict[str, Any], where: str) -> str:
    return _text(record, _one_of(record, NAME_KEYS, where), where)


def _text(record: dict[str, Any], key: str, where: str) -> str:
    value = record[key]
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {key}: found {value!r}, expected text")
    return value


def _one_of(record: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The first of `keys` that the record has."""
    for key in keys:
        if key in record:
            return key
    raise InputError(f"{where}: found keys {', '.join(record) or 'none'}, expected one of {', '.join(keys)}")
