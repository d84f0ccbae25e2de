"""ABX items and word tokens from intervals, in the form of ZeroSpeech's item files.

Frames stand for their centres (i + 1/2) / rate, and an item's frames are those with
onset <= centre <= offset (fastabx). Most encoders have (num_samples - 400) // 320 + 1 frames, 50 a
second: an item that holds no centre of theirs, or that reaches the centre of a frame beyond the
last one, is left out. So a corpus has one list, whatever the encoders of an experiment, and those
of other frame rates are scored on it too (`eval.segments`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from pathlib import Path

from artifacts.files import atomic_file
from corpora.annotations import SILENCE, Interval, format_seconds
from corpora.audio import SAMPLE_RATE_HZ
from corpora.manifest import Utterance

HEADER = "#file onset offset #phone prev-phone next-phone speaker"
HOP_SAMPLES, WINDOW_SAMPLES = 320, 400
"""Hop and receptive field of the encoders of 50 Hz: frames of 25 ms."""


@dataclass(frozen=True, slots=True)
class Item:
    """One ABX token: a phone between two others, in seconds."""

    fileid: str
    onset: float
    offset: float
    phone: str
    previous: str
    next: str
    speaker: str


def triphones(intervals: Sequence[Interval]) -> Iterator[Item]:
    """Phones with both neighbours, from the onset of the one to the offset of the other; none is silence.

    Args:
        intervals: Of the phones of one utterance, in order.
    """
    for previous, phone, following in zip(intervals, intervals[1:], intervals[2:], strict=False):
        labels = (phone.label, previous.label, following.label)
        if SILENCE not in labels and _touch(previous, phone) and _touch(phone, following):
            yield Item(phone.fileid, previous.onset, following.offset, *labels, phone.speaker)


def phonemes(intervals: Sequence[Interval]) -> Iterator[Item]:
    """Phones from their own onset to their own offset; at an edge or a gap the neighbour is ``SIL``."""
    before = {second: first.label for first, second in pairwise(intervals) if _touch(first, second)}
    after = {first: second.label for first, second in pairwise(intervals) if _touch(first, second)}
    for phone in intervals:
        if phone.label != SILENCE:
            context = before.get(phone, SILENCE), after.get(phone, SILENCE)
            yield Item(phone.fileid, phone.onset, phone.offset, phone.label, *context, phone.speaker)


def _touch(first: Interval, second: Interval) -> bool:
    return first.offset == second.onset


def has_frames(token: Item | Interval, num_samples: int) -> bool:
    """Whether an utterance of `num_samples` has all frames of the token at 50 Hz, and the token has any."""
    num_frames = (num_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1
    frame_rate_hz = SAMPLE_RATE_HZ / HOP_SAMPLES
    first = ceil(round(token.onset * frame_rate_hz - 0.5, 9))
    last = floor(round(token.offset * frame_rate_hz - 0.5, 9))
    return first <= last < num_frames


def covered[T: (Item, Interval)](tokens: Iterable[T], utterance: Utterance, dropped: list[str]) -> Iterator[T]:
    """The tokens that frames of 50 Hz cover; the fileids of others are appended to `dropped`."""
    for token in tokens:
        if has_frames(token, utterance.num_samples):
            yield token
        else:
            dropped.append(token.fileid)


def write_covered(
    path: Path,
    items_of: Callable[[Sequence[Interval]], Iterator[Item]],
    phones: Mapping[str, Sequence[Interval]],
    utterances: Iterable[Utterance],
) -> tuple[int, int]:
    """Write the item file of some utterances; gives the numbers of items written and of those left out.

    Args:
        items_of: `triphones` or `phonemes`.
        phones: Of each fileid, in order; an utterance may have none.
    """
    dropped: list[str] = []
    items = (item for u in utterances for item in covered(items_of(phones.get(u.fileid, ())), u, dropped))
    return write_items(path, items), len(dropped)


def write_items(path: Path, items: Iterable[Item]) -> int:
    """Write an item file; gives the number of items."""
    count = 0
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(HEADER + "\n")
        for item in items:
            times = f"{format_seconds(item.onset)} {format_seconds(item.offset)}"
            labels = f"{item.phone} {item.previous} {item.next}"
            file.write(f"{item.fileid} {times} {labels} {item.speaker}\n")
            count += 1
    return count
