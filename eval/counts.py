"""Counts of units with phones every 10 ms, what PNMI and its like are computed from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.labelled import LabelledUnits

type Counts = npt.NDArray[np.int64]
type Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """What all measures of information are computed from, kept apart by speaker for the intervals.

    Attributes:
        joint: Labels by speaker, phone and unit, (S, P, V).
        sequences: Units without repetitions by speaker and unit, (S, V).
        duration_s: Speech of each speaker, (S,).
    """

    speakers: list[str]
    phones: list[str]
    joint: Counts
    sequences: Counts
    duration_s: Floats


def count_units(labelled: LabelledUnits) -> UnitCounts:
    """Count units with phones over all utterances."""
    num_speakers, num_units = len(labelled.speakers), labelled.vocabulary.num_units
    sequences = np.zeros((num_speakers, num_units), np.int64)
    duration_s = np.zeros(num_speakers)
    for utterance in labelled.utterances:
        units = np.array(utterance.sequence.units, np.int64)
        sequences[utterance.speaker] += np.bincount(units, minlength=num_units)
        duration_s[utterance.speaker] += utterance.duration_s
    return UnitCounts(labelled.speakers, labelled.phones, joint_counts(labelled), sequences, duration_s)


def joint_counts(labelled: LabelledUnits, shift_steps: int = 0) -> Counts:
    """Labels by speaker, phone and unit, (S, P, V).

    Args:
        shift_steps: Steps of 10 ms that the units are moved later by, or earlier where it is negative; what then
            has nothing beside it is not counted.
    """
    num_units = labelled.vocabulary.num_units
    joint = np.zeros((len(labelled.speakers), len(labelled.phones), num_units), np.int64)
    for utterance in labelled.utterances:
        overlap = max(0, len(utterance.units) - abs(shift_steps))
        first_unit, first_phone = max(0, -shift_steps), max(0, shift_steps)
        units = utterance.units[first_unit : first_unit + overlap].astype(np.int64)
        phones = utterance.phones[first_phone : first_phone + overlap].astype(np.int64)
        own = joint[utterance.speaker]
        own += np.bincount(phones * num_units + units, minlength=own.size).reshape(own.shape)
    return joint


def surprisal(probability: Floats) -> Floats:
    """-log2 p in bits, and 0 where p is 0: such terms are weighted by p."""
    return -np.log2(probability, out=np.zeros_like(probability), where=probability > 0)
