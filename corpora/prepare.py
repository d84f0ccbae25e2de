"""A corpus as every room reads it: manifest.csv, speakers.csv and, for an evaluation set, items.csv."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from artifacts.errors import InputError, run
from artifacts.files import read_csv, write_csv
from corpora.audio import SAMPLE_RATE_HZ
from corpora.headers import listed, measure
from corpora.layouts import Place, folder_places, librilight_places, librispeech_places
from corpora.manifest import COLUMNS, write_manifest
from corpora.set_layouts import EvaluationSet, read_set, set_places
from corpora.settings import CorpusAt, FolderSettings, LibriLightSettings, LibriSpeechSettings, load_corpus, locate
from corpora.speakers import librispeech_genders, read_genders, write_speakers

HEADERS = ".headers.jsonl"
"""What a job that was killed has read, beside the manifest it did not finish."""


def check_source(settings: CorpusAt, source: Path | None) -> None:
    """Raise an `InputError` unless there is a source folder just where the settings name a source."""
    if settings.source is not None and source is None:
        raise InputError(f"--source: missing, expected the folder of the corpus {settings.source}")
    if settings.source is None and source is not None:
        raise InputError(f"--source: found {source}, but the settings have no key source")


def prepare(settings: CorpusAt, source: Path | None, output: Path) -> int:
    """Write manifest.csv, speakers.csv and, for an evaluation set, items.csv; gives the number of utterances.

    Only headers of audio files are read, and no more of them kept in memory than one deals with at a time. Started
    again after it was killed, it goes on.

    Raises:
        InputError: Files are missing or not 16 kHz mono, or the tables beside them are malformed.
    """
    check_source(settings, source)
    folder = locate(settings.path, "path", source)
    evaluation_set: EvaluationSet | None = None
    table: Path | None = None
    genders: dict[str, str] = {}
    places: Iterable[Place]
    match settings:
        case FolderSettings():
            places = folder_places(settings, folder)
            if settings.speakers is not None:
                table = locate(settings.speakers, "speakers", source)
                genders = read_genders(table)
        case LibriSpeechSettings():
            places = librispeech_places(settings, folder)
            table = folder / "SPEAKERS.TXT"
            genders = librispeech_genders(table)
        case LibriLightSettings():
            places = librilight_places(settings, folder)
        case _:
            evaluation_set = read_set(settings, source)
            places = set_places(evaluation_set)
    with listed(places, output) as listing:
        write_speakers(output / "speakers.csv", sorted(listing.speakers), table, genders)
        write_manifest(output / "manifest.csv", measure(listing, output / HEADERS), archives=listing.archives)
    if evaluation_set is not None:
        write_csv(output / "items.csv", evaluation_set.columns, evaluation_set.items)
    return listing.count


def main() -> None:
    """Lay out a corpus: manifest.csv, speakers.csv and, for an evaluation set, items.csv."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="the corpus's settings: a file, or a JSON object")
    parser.add_argument("--source", type=Path, help="folder of the synthetic corpus that the settings name as source")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    arguments = parser.parse_args()
    num_utterances = prepare(load_corpus(arguments.settings), arguments.source, arguments.output)
    lengths = (int(row["num_samples"]) for _, row in read_csv(arguments.output / "manifest.csv", COLUMNS))
    hours = sum(lengths) / SAMPLE_RATE_HZ / 3600
    print(f"{arguments.output}: {num_utterances:,} utterances, {hours:,.2f} hours")


if __name__ == "__main__":
    run(main)
