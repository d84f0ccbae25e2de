"""Boundaries of units against those of the annotated phones, within 20 ms: precision, recall, F1 and R-value.

A boundary of the annotation is where a phone, or silence, gives way to another interval; a gap of 10 ms and more is
silence, a shorter one is none, and the start and the end of the utterance are no boundaries. A boundary of the units
is where the unit changes. One matches another at most 20 ms away, each at most once, and as many match as can.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError
from corpora.annotations import SILENCE, Interval
from eval.labelled import LABEL_RATE_HZ, LabelledUnits
from eval.measure import Floats, Measure
from units.records import UnitSequence

type Times = npt.NDArray[np.int64]
"""In whole microseconds, so that 20 ms are 20 ms."""

TOLERANCE_US = 20_000
STEP_US = 1_000_000 // LABEL_RATE_HZ


def _microseconds(time_s: float) -> int:
    return round(time_s * 1e6)


def phone_boundaries(intervals: Sequence[Interval], duration_s: float) -> Times:
    """Times of an utterance's annotated boundaries, rising.

    Args:
        intervals: Its phones, times rising.
    """
    found = []
    label, end = SILENCE, 0
    for interval in intervals:
        onset = _microseconds(interval.onset)
        if onset - end >= STEP_US:
            if label != SILENCE:
                found.append(end)
            label = SILENCE
        if label != SILENCE or interval.label != SILENCE:
            found.append(onset)
        label, end = interval.label, _microseconds(interval.offset)
    if label != SILENCE:
        found.append(end)
    last = _microseconds(duration_s) - STEP_US
    return np.array([time for time in found if STEP_US <= time <= last], np.int64)


def unit_boundaries(sequence: UnitSequence, frame_rate_hz: float) -> Times:
    """Times at which the unit changes, rising."""
    frames = np.cumsum(np.array(sequence.durations, np.int64))[:-1]
    return np.round(frames * (1e6 / frame_rate_hz)).astype(np.int64)


def num_matched(reference: Times, found: Times) -> int:
    """The most pairs of a reference and a found boundary at most 20 ms apart, none in two pairs.

    Pairing the earliest two that match is optimal: whichever of them an optimal pairing gives another partner can be
    given this one without losing a pair.
    """
    matched = i = j = 0
    while i < len(reference) and j < len(found):
        late = found[j] - reference[i]
        if abs(late) <= TOLERANCE_US:
            matched, i, j = matched + 1, i + 1, j + 1
        elif late < 0:
            j += 1
        else:
            i += 1
    return matched


def boundary_measures(labelled: LabelledUnits) -> dict[str, Measure]:
    """Precision, recall, F1 and R-value (Rasanen, Laine and Altosaar 2009) of the boundaries of units.

    With recall r and over-segmentation o = found / annotated - 1, the R-value is 1 - (d1 + d2) / 2, where
    d1 = sqrt((1 - r)^2 + o^2) is the distance from r = 1, o = 0 and d2 = |r - 1 - o| / sqrt(2) that from the line
    on which boundaries are found by putting them anywhere. Precision is 0 where none is found.

    Raises:
        InputError: The annotation has no boundary.
    """
    matched, annotated, found = np.zeros((3, len(labelled.speakers)))
    for utterance in labelled.utterances:
        reference = phone_boundaries(utterance.intervals, utterance.duration_s)
        hypothesis = unit_boundaries(utterance.sequence, labelled.vocabulary.frame_rate_hz)
        matched[utterance.speaker] += num_matched(reference, hypothesis)
        annotated[utterance.speaker] += len(reference)
        found[utterance.speaker] += len(hypothesis)
    if not annotated.any():
        raise InputError(f"{labelled.where}: found no boundary between two phones, expected some")

    def measure(numerator: Floats, denominator: Floats, items: str, n: Floats) -> Measure:
        conditions = {
            "tolerance_ms": TOLERANCE_US // 1000,
            "matching": "one to one, as many as can be",
            "silence": "a boundary where it begins or ends; not at the start and the end of an utterance",
        }
        return Measure(numerator, denominator, items, int(n.sum()), conditions=conditions)

    return {
        "boundary_precision": measure(matched, found if found.any() else annotated, "unit boundaries", found),
        "boundary_recall": measure(matched, annotated, "annotated boundaries", annotated),
        "boundary_f1": measure(2 * matched, found + annotated, "annotated and unit boundaries", found + annotated),
        "boundary_r_value": measure(_r_value(matched, annotated, found), annotated, "annotated boundaries", annotated),
    }


def _r_value(matched: Floats, annotated: Floats, found: Floats) -> Floats:
    """Each speaker's R-value to first order, times their annotated boundaries, (S,); the sum is that of all."""
    recall = matched.sum() / annotated.sum()
    over = found.sum() / annotated.sum() - 1
    distance = float(np.hypot(1 - recall, over))
    value = 1 - (distance + (1 + over - recall) / np.sqrt(2)) / 2  # no more match than are found: r <= 1 + o
    towards = np.array([1 - recall, over]) / distance if distance > 0 else np.zeros(2)
    by_recall = (towards[0] + 1 / np.sqrt(2)) / 2
    by_over = -(towards[1] + 1 / np.sqrt(2)) / 2
    change = by_recall * (matched - recall * annotated) + by_over * (found - (1 + over) * annotated)
    return np.asarray(value * annotated + change)
