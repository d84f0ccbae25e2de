"""Libriheavy (Kang et al. 2023): the texts of Libri-Light's books, for the topline of text. No audio is touched.

It is released as ``libriheavy_cuts_<part>.jsonl.gz``, a cut (some seconds of a chapter) a line: its ``id`` and
``duration`` in seconds, and in its one supervision the ``speaker`` and ``custom.texts``, two of them: what the book
says, with case and punctuation, and what a recogniser heard, in capitals.
"""

import argparse
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artifacts.errors import InputError, run
from artifacts.settings import load_settings
from corpora.settings import LibriheavySettings, locate
from corpora.speakers import write_speakers
from corpora.texts import Text, write_texts

TRANSCRIPTS = ("book", "recognized")
"""What the two of ``custom.texts`` are."""


def libriheavy_texts(folder: Path, parts: tuple[str, ...], transcript: str) -> Iterator[Text]:
    """Stream the texts of some parts, each utterance a cut.

    Raises:
        InputError: A file is missing or damaged, or a line of another form; the message names file and line.
    """
    for part in parts:
        path = folder / f"libriheavy_cuts_{part}.jsonl.gz"
        for line, cut in _read(path):
            yield _text(cut, TRANSCRIPTS.index(transcript), f"{path}, line {line}")


def _read(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and content of each line of a gzipped JSONL."""
    line = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):
                yield line, json.loads(text)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected Libriheavy's cuts as they are released") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {line}: not JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}, after line {line}: not UTF-8 text") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}, after line {line}: damaged ({error})") from None


def _text(cut: Any, index: int, where: str) -> Text:
    try:
        (supervision,) = cut["supervisions"]
        found = cut["id"], supervision["custom"]["texts"][index], cut["duration"], supervision["speaker"]
    except (KeyError, IndexError, TypeError, ValueError):
        raise InputError(
            f"{where}: found {json.dumps(cut)[:60]}, expected a cut with id, duration and one supervision with speaker "
            "and custom.texts"
        ) from None
    fileid, text, duration_s, speaker = found
    for key, value in (("id", fileid), (f"custom.texts[{index}]", text), ("speaker", speaker)):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: {key}: found {value!r}, expected some text")
    if type(duration_s) not in (int, float) or not 0 < duration_s < float("inf"):
        raise InputError(f"{where}: duration: found {duration_s!r}, expected a positive number of seconds")
    return Text(fileid, " ".join(text.split()), float(duration_s), speaker)


def prepare_libriheavy(settings: LibriheavySettings, output: Path) -> None:
    """Write texts.csv and speakers.csv, streaming.

    Raises:
        InputError: As `libriheavy_texts`.
    """
    speakers: set[str] = set()
    hours = 0.0

    def heard(texts: Iterator[Text]) -> Iterator[Text]:
        nonlocal hours
        for text in texts:
            speakers.add(text.speaker or "")
            hours += (text.duration_s or 0) / 3600
            yield text

    folder = locate(settings.path, "path", None)
    write_texts(output / "texts.csv", heard(libriheavy_texts(folder, settings.parts, settings.transcript)))
    write_speakers(output / "speakers.csv", sorted(speakers), None, {})
    print(f"{output}: texts of {hours:,.2f} hours by {len(speakers):,} speakers")


def main() -> None:
    """Lay out the texts of Libriheavy: texts.csv and speakers.csv."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="settings of layout `libriheavy`: a file, or a JSON object")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    given = parser.parse_args()
    prepare_libriheavy(load_settings(LibriheavySettings, given.settings), given.output)


if __name__ == "__main__":
    run(main)
