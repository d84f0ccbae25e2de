"""The synthetic corpus's evaluation sets, file by file: sWUGGY, sBLIMP and tSC.

Each pair is spoken by one voice, and mirrored pairs by the same in the same manner, so that what
they mirror in text they also mirror in duration.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from artifacts.seeds import generator
from corpora.grammar import Document, Sentence, minimal_pairs, story_pairs
from corpora.lexicon import draw_crossings, without_stress


@dataclass(frozen=True, slots=True)
class TestFile:
    """One file of an evaluation set: where it lies, what it says, its row in gold.csv."""

    set: str
    path: Path
    voice: str
    document: Document
    mirrored: int
    """Number of the mirrored pairs it is of."""
    gold: dict[str, Any] = field(default_factory=dict)


def lexical_files(count: int, voices: Sequence[str], seed: int) -> Iterator[TestFile]:
    """Words and nonwords of at most `count` pairs; mirrored pairs are spoken alike."""
    for number, crossing in enumerate(draw_crossings(count // 2, generator(seed, "lexical"))):
        voice = voices[number % len(voices)]
        for member, (word, nonword) in enumerate(zip(crossing.words, crossing.nonwords, strict=True)):
            identity = f"{2 * number + member:04d}"
            for spoken, correct in ((word, 1), (nonword, 0)):
                fileid = f"{identity}-{voice}-{'word' if correct else 'nonword'}"
                phones = without_stress(spoken.phones)
                gold = {
                    "id": identity,
                    "filename": fileid,
                    "voice": voice,
                    "word": spoken.spelling,
                    "phones": " ".join(phones),
                    "length": len(phones),
                    "correct": correct,
                }
                path = Path("sLM21/lexical/dev", f"{fileid}.wav")
                yield TestFile("lexical", path, voice, ((spoken,),), number, gold)


def syntactic_files(count: int, voices: Sequence[str], seed: int) -> Iterator[TestFile]:
    """Sentences of `count` different minimal pairs."""
    drawn = dict.fromkeys(islice(minimal_pairs(generator(seed, "syntactic")), 4 * count))
    for number, mirrored in enumerate(islice(drawn, count // 2)):
        voice = voices[number % len(voices)]
        for member, pair in enumerate(mirrored):
            identity = f"{2 * number + member:04d}"
            for words, correct in ((pair.good, 1), (pair.bad, 0)):
                fileid = f"{identity}-{voice}-{'good' if correct else 'bad'}"
                gold = {
                    "id": identity,
                    "filename": fileid,
                    "voice": voice,
                    "type": pair.type,
                    "subtype": pair.subtype,
                    "transcription": transcription(words),
                    "correct": correct,
                }
                path = Path("sLM21/syntactic/dev", f"{fileid}.wav")
                yield TestFile("syntactic", path, voice, (words,), number, gold)


def story_files(count: int, voices: Sequence[str], seed: int) -> Iterator[TestFile]:
    """Stories of `count` pairs, the correct one first, file numbers running through."""
    for number, mirrored in enumerate(islice(story_pairs(generator(seed, "tsc")), count // 2)):
        voice = voices[number % len(voices)]
        for member, pair in enumerate(mirrored):
            index = 2 * number + member
            names = f"{2 * index}_{index:04d}_correct.wav", f"{2 * index + 1}_{index:04d}_incorrect.wav"
            for name, document in zip(names, (pair.correct, pair.incorrect), strict=True):
                yield TestFile("tsc", Path("tSC", name), voice, document, number)


def transcription(words: Sentence) -> str:
    """A sentence as text."""
    return " ".join(word.spelling for word in words)
