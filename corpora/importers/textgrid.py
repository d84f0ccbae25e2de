"""Praat's TextGrids, read in the long and the short form of its text files, and written in the long one.

Praat's manual, "TextGrid file formats": what counts are free-standing numbers, quoted strings (a quote in one is
doubled) and flags in angle brackets; everything else is for people, and so is what follows an exclamation mark. Thus
the short form is the long one without its names, and one reader serves both.
"""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from artifacts.errors import InputError
from artifacts.files import atomic_file
from corpora.annotations import Tier, format_seconds
from corpora.importers.source import Labelled, Span

SUFFIX = ".textgrid"
VALUE = re.compile(
    r'"(?P<text>[^"]*(?:""[^"]*)*)"'
    r"|(?<!\S)(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)"
    r"|(?<!\S)<(?P<flag>\w+)>(?!\S)"
    r"|![^\n]*"
)
TIER_NAME = re.compile(r"(?:.* - )?(phone|word)s?", re.IGNORECASE | re.DOTALL)
"""Names of tiers as the Montreal Forced Aligner gives them, with the speaker in front where there are several."""


class _Values:
    """The values of a TextGrid one after the other, each of the kind that is expected."""

    def __init__(self, path: Path) -> None:
        self.path, self._text = path, _decode(path)
        self._values = (match for match in VALUE.finditer(self._text) if match.lastgroup)

    def next(self, kind: str) -> str:
        match = next(self._values, None)
        if match is None:
            raise InputError(f"{self.path}: found its end, expected a {kind}: is it whole?")
        if match.lastgroup != kind:
            line = self._text.count("\n", 0, match.start()) + 1
            raise InputError(f"{self.path}, line {line}: found {match[0][:40]}, expected a {kind}")
        return match[kind]

    def text(self) -> str:
        return self.next("text").replace('""', '"')

    def number(self) -> float:
        return float(self.next("number"))

    def count(self) -> int:
        return int(self.number())


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if data.startswith(b"ooBinaryFile"):
        raise InputError(f"{path}: found a binary file, expected one that Praat saved as text")
    # Praat's own choice is UTF-16 where a label is not ASCII.
    is_utf16 = data.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: found neither UTF-8 nor UTF-16 text") from None


def parse_textgrid(path: Path) -> dict[str, list[Span]]:
    """The interval tiers of a TextGrid by name, in its order; tiers of points are left out.

    Raises:
        InputError: It is no whole TextGrid, does not begin at 0 s, or two interval tiers have one name; the message
            names the file, and the line where there is one.
    """
    values = _Values(path)
    if not values.text().startswith("ooTextFile") or values.text() != "TextGrid":
        raise InputError(f"{path}: found another kind of file, expected a TextGrid that Praat saved as text")
    start_s, _ = values.number(), values.number()
    if start_s != 0:
        raise InputError(
            f"{path}: found a TextGrid that begins at {start_s} s, expected the beginning of its audio, 0 s"
        )
    tiers: dict[str, list[Span]] = {}
    num_tiers = values.count() if values.next("flag") == "exists" else 0
    for _ in range(num_tiers):
        kind, name = values.text(), values.text()
        _, _, size = values.number(), values.number(), values.count()
        if kind == "IntervalTier":
            if name in tiers:
                raise InputError(f"{path}: found two tiers {name!r}, expected a name of its own each")
            tiers[name] = [Span(values.number(), values.number(), values.text()) for _ in range(size)]
        elif kind == "TextTier":
            for _ in range(size):
                values.number(), values.text()
        else:
            raise InputError(f"{path}: found a tier of class {kind!r}, expected IntervalTier or TextTier")
    return tiers


def read_textgrid(path: Path) -> Iterator[Labelled]:
    """The tiers ``phones`` and ``words`` of an utterance, those of them that there are.

    ``phone``, ``word`` and ``<speaker> - phones`` are such names too, in capitals or not; other tiers are left out.

    Raises:
        InputError: As `parse_textgrid`, or there is neither tier.
    """
    tiers = parse_textgrid(path)
    wanted: list[Labelled] = []
    for name, spans in tiers.items():
        if match := TIER_NAME.fullmatch(name):
            tier: Tier = "phones" if match[1].lower() == "phone" else "words"
            wanted.append(Labelled(str(path.with_suffix("")), tier, spans))
    if not wanted:
        raise InputError(f"{path}: found the interval tiers {', '.join(tiers) or '(none)'}, expected phones or words")
    yield from wanted


def write_textgrid(path: Path, end_s: float, tiers: Mapping[str, Sequence[Span]]) -> None:
    """Write a TextGrid from 0 to `end_s`, or to the last offset where that is later; gaps become empty intervals.

    Args:
        tiers: By name; spans of one in order, none empty or overlapping.
    """
    end_s = max([end_s, *(spans[-1].offset for spans in tiers.values() if spans)])
    end = format_seconds(end_s)
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end}"]
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("\n".join([*head, "tiers? <exists>", f"size = {len(tiers)}", "item []:", ""]))
        for number, (name, spans) in enumerate(tiers.items(), start=1):
            whole = list(_without_gaps(spans, end_s))
            file.write(f'    item [{number}]:\n        class = "IntervalTier"\n        name = {_quoted(name)}\n')
            file.write(f"        xmin = 0\n        xmax = {end}\n        intervals: size = {len(whole)}\n")
            for index, span in enumerate(whole, start=1):
                onset, offset = format_seconds(span.onset), format_seconds(span.offset)
                file.write(f"        intervals [{index}]:\n            xmin = {onset}\n            xmax = {offset}\n")
                file.write(f"            text = {_quoted(span.label)}\n")


def _without_gaps(spans: Sequence[Span], end_s: float) -> Iterator[Span]:
    here = 0.0
    for span in spans:
        if span.onset > here:
            yield Span(here, span.onset, "")
        yield span
        here = span.offset
    if here < end_s:
        yield Span(here, end_s, "")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
