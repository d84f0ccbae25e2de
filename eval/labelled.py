"""Units beside the annotated phones of their utterances, every 10 ms: what the quality of units is computed from.

The convention decides more than the models differ, so there is one, and it is stored with each score: silence is
a phone; the label of a 10 ms step is that of its centre; a unit counts once for each step it lasts (twice at 50 Hz);
units and labels of an utterance are cut to the shorter. They may differ by two frames of the units, whatever their
rate: as many are lost where windows are not padded and as long as two frames, and padding adds one.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError
from corpora.annotations import SILENCE, Interval, frame_labels, read_intervals
from corpora.manifest import Utterance, read_manifest
from units.records import UnitSequence, Vocabulary, read_units

type Labels = npt.NDArray[np.int32]

SAMPLE_RATE_HZ = 16_000
LABEL_RATE_HZ = 100
MAX_DIFFERENCE = 2  # frames of the units by which they and the annotation of an utterance may differ in length
NAMED = 3  # how many of many a message names

CONVENTION = {
    "step_ms": 1000 // LABEL_RATE_HZ,
    "silence": f"counted, as the phone {SILENCE}",
    "label": "of the interval that holds the centre of the step",
    "length": f"cut to the shorter; a difference of more than {MAX_DIFFERENCE} frames of the units is an error",
}


@dataclass(frozen=True, slots=True)
class AnnotatedUnits:
    """The files of one set: units (JSONL), their utterances, and intervals with the tier ``phones``."""

    units: Path
    manifest: Path
    intervals: Path


@dataclass(frozen=True, slots=True)
class LabelledUtterance:
    """An utterance's units and phones.

    Attributes:
        speaker: Index of its speaker.
        units: Unit of each 10 ms step, (L,).
        phones: Index of each step's phone, (L,).
        sequence: The units as they were read.
        intervals: The annotated phones, times rising.
        duration_s: Length of the audio.
    """

    speaker: int
    units: Labels
    phones: Labels
    sequence: UnitSequence
    intervals: list[Interval]
    duration_s: float


@dataclass(frozen=True, slots=True)
class LabelledUnits:
    """The utterances of one or more sets, pooled.

    Attributes:
        speakers: Names of the speakers, sorted.
        phones: The phones of the annotation, sorted; silence is among them.
        where: The annotations' files, for messages.
    """

    speakers: list[str]
    phones: list[str]
    vocabulary: Vocabulary
    utterances: list[LabelledUtterance]
    where: str

    @property
    def steps_per_frame(self) -> int:
        """Steps of 10 ms that a frame of units lasts."""
        return int(LABEL_RATE_HZ / self.vocabulary.frame_rate_hz)


def read_labelled(sets: Sequence[AnnotatedUnits], vocabulary: Vocabulary) -> LabelledUnits:
    """Put the units of all utterances of the sets beside their phones.

    Raises:
        InputError: An utterance is missing on either side, a unit is not in the vocabulary, units and labels
            of an utterance differ by more than two frames of the units, there are fewer than two phones.
    """
    num_units, frame_rate_hz = vocabulary
    steps = LABEL_RATE_HZ / frame_rate_hz
    if not steps.is_integer():
        raise InputError(f"units at {frame_rate_hz:g} Hz, expected {LABEL_RATE_HZ} Hz or a whole part of it")
    manifests = [{utterance.fileid: utterance for utterance in read_manifest(each.manifest)} for each in sets]
    intervals = [read_intervals(each.intervals, "phones") for each in sets]
    phones = sorted({SILENCE} | {i.label for found in intervals for phones in found.values() for i in phones})
    speakers = sorted({utterance.speaker for manifest in manifests for utterance in manifest.values()})
    phone_index = {phone: index for index, phone in enumerate(phones)}
    speaker_index = {speaker: index for index, speaker in enumerate(speakers)}
    labelled: list[LabelledUtterance] = []
    read: set[str] = set()
    for each, utterances, phones_of in zip(sets, manifests, intervals, strict=True):
        _require_same(utterances.keys(), phones_of.keys(), each.intervals, each.manifest)
        if again := read & utterances.keys():
            raise InputError(f"{each.manifest}: {_named(again)} counted already, expected sets of other utterances")
        seen: set[str] = set()
        for sequence in read_units(each.units):
            if sequence.fileid not in utterances:
                raise InputError(f"{each.units}: {sequence.fileid} is not in {each.manifest}")
            seen.add(sequence.fileid)
            if (unit := max(sequence.units, default=0)) >= num_units:
                raise InputError(f"{each.units}: {sequence.fileid} has unit {unit}, expected below {num_units}")
            utterance, spoken = utterances[sequence.fileid], phones_of[sequence.fileid]
            units, labels = _aligned(each.units, sequence, utterance, spoken, int(steps))
            labelled.append(
                LabelledUtterance(
                    speaker=speaker_index[utterance.speaker],
                    units=units,
                    phones=np.array([phone_index[label] for label in labels], np.int32),
                    sequence=sequence,
                    intervals=spoken,
                    duration_s=utterance.num_samples / SAMPLE_RATE_HZ,
                )
            )
        _require_same(utterances.keys(), seen, each.units, each.manifest)
        read |= seen
    where = ", ".join(str(each.intervals) for each in sets)
    if len({phone for utterance in labelled for phone in np.unique(utterance.phones).tolist()}) < 2:
        raise InputError(f"{where}: found fewer than two phones beside the units, expected an inventory")
    return LabelledUnits(speakers, phones, vocabulary, labelled, where)


def _require_same(expected: Set[str], found: Set[str], path: Path, manifest: Path) -> None:
    if missing := expected - found:
        raise InputError(f"{path}: nothing for {_named(missing)} of {manifest}")
    if extra := found - expected:
        raise InputError(f"{path}: {_named(extra)} not in {manifest}")


def _named(fileids: Set[str]) -> str:
    more = ", ..." if len(fileids) > NAMED else ""
    return f"{len(fileids)} utterance(s) ({', '.join(sorted(fileids)[:NAMED])}{more})"


def _aligned(
    path: Path, sequence: UnitSequence, utterance: Utterance, intervals: list[Interval], steps: int
) -> tuple[Labels, list[str]]:
    """Units and phones of an utterance every 10 ms, equally long."""
    units = sequence.frames().repeat(steps).astype(np.int32)
    num_labels = utterance.num_samples * LABEL_RATE_HZ // SAMPLE_RATE_HZ
    if abs(len(units) - num_labels) > MAX_DIFFERENCE * steps:
        raise InputError(
            f"{path}: {sequence.fileid} has units for {len(units)} labels of 10 ms, "
            f"expected {num_labels} give or take {MAX_DIFFERENCE * steps}, {MAX_DIFFERENCE} frames of the units"
        )
    length = min(len(units), num_labels)
    return units[:length], frame_labels(intervals, length, LABEL_RATE_HZ)
