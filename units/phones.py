"""The annotated phones as units: the topline, with neither encoder nor quantizer.

Frames are 10 ms, each with the phone at its centre, so that their PNMI against the same labels is 1.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.errors import InputError, run
from artifacts.files import read_json_object, write_json
from artifacts.provenance import provenance
from corpora.annotations import SILENCE, Interval, frame_labels, read_intervals
from corpora.manifest import Utterance, read_manifest
from units.records import UnitSequence, run_length, write_units

FRAME_RATE_HZ = 100.0
FRAME_SAMPLES = 160
TAKEN_ANEW = (
    "remove that file and start again: the inventory is taken anew, and what was trained on the old one is trained anew"
)
"""What to do about phones that came with a corpus after the inventory was taken."""


class UnknownPhoneError(InputError):
    """An annotation has a phone that the inventory lacks."""


def inventory(annotations: Iterable[Path]) -> list[str]:
    """Every phone that occurs in some interval tables, and silence, sorted."""
    phones = {SILENCE}
    for path in annotations:
        for intervals in read_intervals(path, "phones").values():
            phones.update(interval.label for interval in intervals)
    return sorted(phones)


def read_phones(encoder: Path) -> list[str]:
    """The inventory of an encoder folder of family ``phones``; a phone's unit is its place in it.

    Raises:
        InputError: The folder's config.json is missing or of another family.
    """
    where = encoder / "config.json"
    config = read_json_object(where)
    phones = config.get("phones")
    if config.get("family") != "phones" or not isinstance(phones, list):
        raise InputError(f"{where}: family: found {config.get('family')!r}, expected 'phones' with its inventory")
    return phones


def tokenize(
    utterances: Sequence[Utterance], intervals: dict[str, list[Interval]], phones: Sequence[str]
) -> Iterator[UnitSequence]:
    """The phones of each utterance as units, at 100 Hz.

    Raises:
        InputError: An utterance without annotation.
        UnknownPhoneError: A phone that the inventory lacks.
    """
    unit_of = {phone: unit for unit, phone in enumerate(phones)}
    for utterance in utterances:
        if utterance.fileid not in intervals:
            raise InputError(f"{utterance.fileid}: found no phones in the annotation, expected its intervals")
        # Every frame whose centre lies in the audio: tokens that end with it find all their frames.
        num_frames = (utterance.num_samples + FRAME_SAMPLES // 2) // FRAME_SAMPLES
        labels = frame_labels(intervals[utterance.fileid], num_frames, FRAME_RATE_HZ)
        unknown = sorted(set(labels) - set(unit_of))
        if unknown:
            raise UnknownPhoneError(
                f"{utterance.fileid}: found phone {unknown[0]!r}, expected one of {' '.join(phones)}"
            )
        yield UnitSequence(utterance.fileid, *run_length(np.array([unit_of[label] for label in labels])))


def main() -> None:
    """The annotated phones as units."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("inventory", help="collect the phones of some annotations")
    verb.add_argument("--intervals", type=Path, nargs="+", required=True, help="interval tables")
    verb.add_argument("--output", type=Path, required=True, help="config.json of the encoder folder")
    verb = verbs.add_parser("tokenize", help="write the phones of a corpus as units")
    verb.add_argument("--encoder", type=Path, required=True, help="encoder folder of family phones")
    verb.add_argument("--intervals", type=Path, required=True, help="interval table of the corpus")
    verb.add_argument("--manifest", type=Path, required=True, help="utterances")
    verb.add_argument("--output", type=Path, required=True, help="JSONL of units")
    given = parser.parse_args()
    if given.verb == "tokenize":
        intervals = read_intervals(given.intervals, "phones")
        phones = read_phones(given.encoder)
        try:
            write_units(given.output, tokenize(read_manifest(given.manifest), intervals, phones))
        except UnknownPhoneError as error:
            taken = f"the phones of {given.encoder / 'config.json'}"
            raise InputError(f"{given.intervals}: {error}: {taken}; {TAKEN_ANEW}") from None
        return
    phones = inventory(given.intervals)
    config: dict[str, Any] = {
        "family": "phones",
        "frame_rate_hz": FRAME_RATE_HZ,
        "num_units": len(phones),
        "phones": phones,
        "intervals": [str(path) for path in given.intervals],  # those that stay its inputs (workflow.targets)
        "provenance": provenance({}, {str(number): path for number, path in enumerate(given.intervals)}),
    }
    write_json(given.output, config)


if __name__ == "__main__":
    run(main)
