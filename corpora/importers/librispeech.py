"""Word alignments of LibriSpeech, ``<speaker>-<chapter>.alignment.txt``, one utterance a line.

``84-121123-0000 ",GO,,DO,YOU," "0.490,0.890,1.250,1.380,1.590"``: each word with the time in seconds at which it ends,
and at which the next begins; an empty word is silence.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from artifacts.errors import InputError
from corpora.importers.source import Labelled, Span, lines_of, seconds

SUFFIX = ".alignment.txt"
LINE = re.compile(r'(?P<name>\S+) "(?P<words>[^"]*)" "(?P<ends>[^"]*)"')


def read_alignment(path: Path) -> Iterator[Labelled]:
    """Stream the utterances of one chapter.

    Raises:
        InputError: A malformed line, or not as many times as words; the message names file and line.
    """
    with lines_of(path) as lines:
        for line, text in lines:
            where = f"{path}, line {line}"
            match = LINE.fullmatch(text)
            if match is None:
                raise InputError(f'{where}: found {text[:60]!r}, expected <fileid> "<words>" "<ends>"')
            words, ends = match["words"].split(","), match["ends"].split(",")
            if len(words) != len(ends):
                raise InputError(f"{where}: found {len(words)} words and {len(ends)} times, expected one for each")
            edges = pairwise([0.0, *(seconds(end, where) for end in ends)])
            spans = [Span(onset, offset, word) for (onset, offset), word in zip(edges, words, strict=True)]
            yield Labelled(match["name"], "words", spans)
