"""A corpus as every room reads it: manifest.csv, speakers.csv and, for an evaluation set, items.csv."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from artifacts.errors import InputError, run
from artifacts.files import read_csv, write_csv
from corpora.layouts import (
    Row,
    folder_places,
    item_places,
    measure,
    some,
    story_items,
    zerospeech_items,
)
from corpora.manifest import write_manifest
from corpora.settings import CorpusAt, FolderSettings, ZeroSpeechSettings, load_corpus, locate

SPEAKER_COLUMNS = ("speaker", "gender")


def check_source(settings: CorpusAt, source: Path | None) -> None:
    """Raise an `InputError` unless there is a source folder just where the settings name a source."""
    if settings.source is not None and source is None:
        raise InputError(f"--source: missing, expected the folder of the corpus {settings.source}")
    if settings.source is None and source is not None:
        raise InputError(f"--source: found {source}, but the settings have no key source")


def prepare(settings: CorpusAt, source: Path | None, output: Path) -> int:
    """Write manifest.csv, speakers.csv and, for an evaluation set, items.csv; gives the number of utterances.

    Only headers of audio files are read.

    Raises:
        InputError: Files are missing or not 16 kHz mono, or the tables beside them are malformed.
    """
    check_source(settings, source)
    folder = locate(settings.path, "path", source)
    items: Sequence[Row] = ()
    if isinstance(settings, FolderSettings):
        places = folder_places(settings, folder)
    else:
        if isinstance(settings, ZeroSpeechSettings):
            folder = folder / settings.task / settings.split
            columns, items = zerospeech_items(settings, folder)
        else:
            columns, items = story_items(folder)
        places = item_places(items, folder)
    write_manifest(output / "manifest.csv", measure(places))
    table = None
    if isinstance(settings, FolderSettings) and settings.speakers is not None:
        table = locate(settings.speakers, "speakers", source)
    write_speakers(output / "speakers.csv", sorted({place.speaker for place in places}), table)
    if items:
        write_csv(output / "items.csv", columns, items)
    return len(places)


def write_speakers(path: Path, speakers: Sequence[str], table: Path | None) -> None:
    """Write speakers.csv; the gender is empty where no table tells it.

    Raises:
        InputError: The table lacks a speaker.
    """
    genders: dict[str, str] = {}
    if table is not None:
        genders = {row["speaker"]: row["gender"] for _, row in read_csv(table, SPEAKER_COLUMNS)}
        missing = [speaker for speaker in speakers if speaker not in genders]
        if missing:
            raise InputError(f"{table}: found no {some(missing)} of {len(speakers):,} speakers, expected all")
    rows = ({"speaker": speaker, "gender": genders.get(speaker, "")} for speaker in speakers)
    write_csv(path, SPEAKER_COLUMNS, rows)


def main() -> None:
    """Lay out a corpus: manifest.csv, speakers.csv and, for an evaluation set, items.csv."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="the corpus's settings: a file, or a JSON object")
    parser.add_argument("--source", type=Path, help="folder of the synthetic corpus that the settings name as source")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    arguments = parser.parse_args()
    num_utterances = prepare(load_corpus(arguments.settings), arguments.source, arguments.output)
    print(f"{arguments.output}: {num_utterances:,} utterances")


if __name__ == "__main__":
    run(main)
