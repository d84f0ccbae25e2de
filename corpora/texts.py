"""What is said in a corpus: texts.csv, which the topline of text is trained and scored on.

A table of texts is a CSV with the columns ``fileid,text``, perhaps ``duration_s`` (seconds) and ``speaker``, or a
JSONL with these keys. Runs of white space in a text are one space.
"""

import argparse
import csv
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from artifacts.errors import InputError, run
from artifacts.files import read_csv, read_jsonl, write_csv
from corpora.annotations import SILENCE, Interval, read_intervals
from corpora.audio import SAMPLE_RATE_HZ
from corpora.layouts import some
from corpora.manifest import Utterance, read_manifest
from corpora.prepare import check_source
from corpora.settings import TEXT_TIERS, CorpusAt, ZeroSpeechSettings, load_corpus, locate

COLUMNS = ("fileid", "text", "duration_s", "speaker")
GOLD_COLUMNS = {"lexical": "word", "syntactic": "transcription"}
"""Columns of sLM21's gold.csv that say what is said."""
LONGEST_TEXT = 2**31 - 1
"""Characters that a field of a CSV may have: the csv module's own limit is shorter than some chapters."""


class Text(NamedTuple):
    """What an utterance says, for how many seconds, and by whom; None where nobody tells."""

    fileid: str
    text: str
    duration_s: float | None = None
    speaker: str | None = None


def read_texts(path: Path) -> Iterator[Text]:
    """Stream a table of texts, CSV or JSONL by its suffix; eight bytes of each utterance are kept.

    Raises:
        InputError: A malformed line, an empty text, a fileid that occurs twice; the message names file and line.
    """
    hashes = array("q")
    for line, row in _rows(path):
        text = _text(row, f"{path}, line {line}")
        hashes.append(hash(text.fileid))
        yield text
    ordered = np.sort(np.array(hashes, dtype=np.int64))
    alike = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    first: dict[str, int] = {}
    for line, row in _rows(path) if alike else ():
        if hash(row["fileid"]) in alike and first.setdefault(row["fileid"], line) != line:
            raise InputError(f"{path}, line {line}: fileid {row['fileid']} again, first on line {first[row['fileid']]}")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() == ".jsonl":
        return read_jsonl(path)
    csv.field_size_limit(LONGEST_TEXT)
    return iter(read_csv(path, COLUMNS[:2]))


def _text(row: dict[str, Any], where: str) -> Text:
    for key in COLUMNS[:2]:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{where}: {key}: found {row.get(key)!r}, expected some text")
    speaker = row.get("speaker") or None
    if not isinstance(speaker, str | None):
        raise InputError(f"{where}: speaker: found {speaker!r}, expected a name")
    duration_s = row.get("duration_s")
    return Text(
        row["fileid"],
        " ".join(row["text"].split()),
        None if duration_s in (None, "") else _seconds(duration_s, f"{where}: duration_s"),
        speaker,
    )


def _seconds(value: Any, where: str) -> float:
    try:
        duration_s = float(value)
    except (TypeError, ValueError):
        duration_s = math.nan
    if not 0 < duration_s < math.inf or isinstance(value, bool):
        raise InputError(f"{where}: found {value!r}, expected a positive number of seconds")
    return duration_s


def write_texts(path: Path, texts: Iterable[Text]) -> None:
    """Write texts.csv, streaming; what nobody tells is empty."""
    write_csv(path, COLUMNS, (text._asdict() for text in texts))


def told(
    said: Iterable[tuple[str, str]], utterances: Sequence[Utterance], where: str, left_out: list[str]
) -> Iterator[Text]:
    """Each utterance's text, with its duration and speaker from the manifest, in the order of the texts.

    Args:
        said: Fileid and text of utterances.
        where: What the texts are from, for messages.
        left_out: Collects the fileids that the manifest lacks.

    Raises:
        InputError: Utterances without a text; they are counted.
    """
    missing = {utterance.fileid: utterance for utterance in utterances}
    for fileid, text in said:
        utterance = missing.pop(fileid, None)
        if utterance is None:
            left_out.append(fileid)
        else:
            yield Text(fileid, text, utterance.num_samples / SAMPLE_RATE_HZ, utterance.speaker)
    if missing:
        raise InputError(f"{where}: found no text of {some(missing)} of {len(utterances):,} utterances, expected all")


def said_by_annotations(intervals: Path, tier: str) -> Iterator[tuple[str, str]]:
    """Fileid and text of every utterance of an interval table with words.

    Args:
        tier: ``words`` writes each word as it is labelled, ``phones`` as its phones without spaces: what has no
            spelling (a nonword) is then written as words are.

    Raises:
        InputError: A malformed table, or a word without phones.
    """
    words = read_intervals(intervals, "words")
    phones = read_intervals(intervals, "phones") if tier == "phones" else {}
    for fileid, spoken in words.items():
        labels = [word.label for word in spoken]
        if tier == "phones":
            labels = [_phones_of(word, phones.get(fileid, ())) for word in spoken]
            if "" in labels:
                word = spoken[labels.index("")]
                raise InputError(
                    f"{intervals}: {fileid}: found no phones in the word {word.label!r} from {word.onset:g} to "
                    f"{word.offset:g} s, expected some"
                )
        yield fileid, " ".join(labels)


def _phones_of(word: Interval, phones: Iterable[Interval]) -> str:
    """The phones whose middle lies in a word."""
    inside = [p.label for p in phones if word.onset <= (p.onset + p.offset) / 2 < word.offset and p.label != SILENCE]
    return "".join(inside)


def said_by_gold(items: Path, column: str) -> Iterator[tuple[str, str]]:
    """Fileid and text of every stimulus of an sLM21 set.

    Raises:
        InputError: Some have none, as sWUGGY's nonwords may; they are counted.
    """
    rows = [(row["fileid"], row[column].strip()) for _, row in read_csv(items, ("fileid", column))]
    if without := [fileid for fileid, text in rows if not text]:
        raise InputError(
            f"{items}: {column}: found nothing for {some(without)} of {len(rows):,} files, expected what is said; "
            "a table of texts under the corpus's key texts can tell it"
        )
    yield from rows


def prepare_texts(
    settings: CorpusAt, source: Path | None, manifest: Path, intervals: Path | None, items: Path | None, output: Path
) -> None:
    """Write texts.csv of a corpus: the text of each utterance of its manifest.

    Texts of other utterances are left out; their number is printed.

    Args:
        intervals: The corpus's interval table, where its key texts is ``words`` or ``phones``.
        items: The evaluation set's items.csv, where it has no such key.

    Raises:
        InputError: Utterances without text, malformed tables, or a corpus without texts.
    """
    check_source(settings, source)
    texts = getattr(settings, "texts", None)
    if texts in TEXT_TIERS:
        if intervals is None:
            raise InputError(f"--intervals: missing, expected the interval table whose {texts} are the texts")
        where, said = intervals, said_by_annotations(intervals, texts)
    elif texts is not None:
        where = locate(texts, "texts", source)
        said = ((text.fileid, text.text) for text in read_texts(where))
    elif isinstance(settings, ZeroSpeechSettings) and items is not None:
        where, said = items, said_by_gold(items, GOLD_COLUMNS[settings.task])
    else:
        raise InputError("texts: missing, expected a table of texts, words or phones")
    left_out: list[str] = []
    write_texts(output, told(said, read_manifest(manifest), str(where), left_out))
    if left_out:
        print(f"{where}: left out {some(left_out)} texts of utterances that the manifest lacks")


def main() -> None:
    """Write what is said in a corpus: texts.csv."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="the corpus's settings: a file, or a JSON object")
    parser.add_argument("--source", type=Path, help="folder of the synthetic corpus that the settings name as source")
    parser.add_argument("--manifest", type=Path, required=True, help="the corpus's manifest.csv")
    parser.add_argument("--intervals", type=Path, help="its intervals.csv, for texts: words or phones")
    parser.add_argument("--items", type=Path, help="its items.csv, for the texts that gold.csv has")
    parser.add_argument("--output", type=Path, required=True, help="texts.csv")
    given = parser.parse_args()
    settings = load_corpus(given.settings)
    prepare_texts(settings, given.source, given.manifest, given.intervals, given.items, given.output)


if __name__ == "__main__":
    run(main)
