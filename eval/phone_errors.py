"""Phone error rate of units that are read as phones: PER = (insertions + deletions + substitutions) / phones.

Each unit is given a phone, by the counts of units with phones every 10 ms that PNMI is computed from. Many-to-one, a
unit is the phone it occurs with most. One-to-one, a phone has one unit and a unit one phone, so that the most labels
agree; the other units are no phone, and wrong wherever they stand. Both sequences, the units read as phones and the
labels, are of 10 ms and lose their repetitions, then their silence: units may be silence, which is neither asked for
nor counted.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from corpora.annotations import SILENCE
from eval.counts import Counts, UnitCounts
from eval.labelled import LabelledUnits, Labels
from eval.measure import Measure
from units.records import run_length

PHONES = "annotated phones without repetitions and silence"
NO_PHONE = -1


def many_to_one(joint: Counts) -> Labels:
    """Index of the phone that each unit occurs with most, (V,), from the counts of phones and units, (P, V).

    The first of equals; a unit that does not occur has phone 0.
    """
    return joint.argmax(0).astype(np.int32)


def one_to_one(joint: Counts) -> Labels:
    """Index of each unit's phone, (V,), -1 for none, such that no two share a phone and most labels agree.

    The assignment problem (Kuhn 1955) over the counts of phones and units, (P, V). A unit that never occurs with the
    phone that is left for it has none.
    """
    phones, units = linear_sum_assignment(joint, maximize=True)
    chosen = np.full(joint.shape[1], NO_PHONE, np.int32)
    chosen[units] = np.where(joint[phones, units] > 0, phones, NO_PHONE)
    return chosen


def edit_distance(reference: npt.NDArray[np.integer], hypothesis: npt.NDArray[np.integer]) -> int:
    """Fewest insertions, deletions and substitutions that make one sequence the other (Wagner and Fischer 1974)."""
    places = np.arange(len(hypothesis) + 1)
    row = places
    for done, symbol in enumerate(reference, start=1):
        without_insertions = np.empty_like(row)
        without_insertions[0] = done
        without_insertions[1:] = np.minimum(row[:-1] + (hypothesis != symbol), row[1:] + 1)
        # An insertion costs 1 for each place it moves on.
        row = np.minimum.accumulate(without_insertions - places) + places
    return int(row[-1])


def phone_error_rates(labelled: LabelledUnits, counts: UnitCounts) -> dict[str, Measure]:
    """The phone error rate by both mappings: ``per_many_to_one`` and ``per_one_to_one``.

    Args:
        counts: Of the same units.
    """
    silence = labelled.phones.index(SILENCE)
    joint = counts.joint.sum(0)
    num_phones = np.zeros(len(labelled.speakers))
    references = []
    for utterance in labelled.utterances:
        references.append(_spoken(utterance.phones, silence))
        num_phones[utterance.speaker] += len(references[-1])
    rates = {}
    for name, phone_of in (("many_to_one", many_to_one(joint)), ("one_to_one", one_to_one(joint))):
        errors = np.zeros(len(labelled.speakers))
        for utterance, reference in zip(labelled.utterances, references, strict=True):
            errors[utterance.speaker] += edit_distance(reference, _spoken(phone_of[utterance.units], silence))
        rates[f"per_{name}"] = Measure(
            errors,
            num_phones,
            PHONES,
            int(num_phones.sum()),
            conditions={
                "mapping": f"{name.replace('_', '-')}, from the counts of the same speech",
                "silence": f"{SILENCE} may be what a unit is read as; left out of both sequences",
            },
        )
    return rates


def _spoken(phones: Labels, silence: int) -> npt.NDArray[np.int64]:
    """Phones every 10 ms without repetitions, then without silence."""
    return np.array([phone for phone in run_length(phones)[0] if phone != silence], np.int64)
