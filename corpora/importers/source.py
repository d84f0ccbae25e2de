"""What every form of annotation is read into: one tier of one utterance, as its file has it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from artifacts.errors import InputError
from corpora.annotations import Tier


class Span(NamedTuple):
    """A labelled stretch of an utterance, in seconds from its start."""

    onset: float
    offset: float
    label: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """One tier of one utterance as its file has it: spans in any order, not yet held against the audio."""

    name: str
    """Fileid, or path of the audio or of the annotation; an audio file may keep its extension."""
    tier: Tier
    spans: Sequence[Span]
    speaker: str | None = None
    """Where the form tells it."""
    covers_s: float | None = None
    """Of a form that labels every moment: how much it labels, in seconds."""


def seconds(value: Any, where: str) -> float:
    """A time that a file gives as a number, or as text that is one; it may be negative.

    Raises:
        InputError: It is none, or not finite.
    """
    try:
        time_s = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        time_s = math.nan
    if not math.isfinite(time_s):
        raise InputError(f"{where}: found {value!r}, expected a time in seconds")
    return time_s


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[tuple[int, str]]]:
    """Yield the numbered lines of a text file, streaming, without their ends; blank ones are left out.

    Raises:
        InputError: The file is absent or not UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield ((number, line.rstrip()) for number, line in enumerate(file, start=1) if line.strip())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
