"""Boundaries of phones and units worked by hand, their matching against every matching there is, and the R-value."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from corpora.annotations import Interval
from eval.boundaries import boundary_measures, num_matched, phone_boundaries, unit_boundaries
from eval.labelled import LabelledUnits, LabelledUtterance
from units.records import UnitSequence, Vocabulary

times = st.lists(st.integers(1, 40), max_size=7, unique=True).map(lambda found: sorted(5_000 * time for time in found))


def intervals(*found: tuple[float, float, str]) -> list[Interval]:
    return [Interval("f", onset, offset, label, "phones", "s") for onset, offset, label in found]


def test_edges_of_phones_and_silences_are_boundaries_and_those_of_the_utterance_are_not() -> None:
    spoken = intervals((0.1, 0.2, "A"), (0.2, 0.3, "B"), (0.4, 0.5, "B"))
    assert phone_boundaries(spoken, 0.6).tolist() == [100_000, 200_000, 300_000, 400_000, 500_000]
    assert phone_boundaries(spoken, 0.5).tolist() == [100_000, 200_000, 300_000, 400_000]
    assert phone_boundaries(spoken, 0.505).tolist() == [100_000, 200_000, 300_000, 400_000]
    silences = intervals((0, 0.1, "SIL"), (0.1, 0.2, "A"), (0.2, 0.3, "B"), (0.3, 0.35, "SIL"), (0.4, 0.5, "B"))
    assert phone_boundaries(silences, 0.5).tolist() == [100_000, 200_000, 300_000, 400_000]
    assert phone_boundaries(intervals((0.0, 0.3, "A")), 0.3).tolist() == []
    assert phone_boundaries([], 0.3).tolist() == []


def test_a_gap_shorter_than_10_ms_is_one_boundary_and_not_two() -> None:
    assert phone_boundaries(intervals((0, 0.1, "A"), (0.1025, 0.2, "B")), 0.2).tolist() == [102_500]
    assert phone_boundaries(intervals((0, 0.1, "A"), (0.11, 0.2, "B")), 0.2).tolist() == [100_000, 110_000]


def test_a_phone_said_twice_has_a_boundary_between() -> None:
    assert phone_boundaries(intervals((0, 0.1, "A"), (0.1, 0.2, "A")), 0.2).tolist() == [100_000]


def test_boundaries_of_units_lie_between_frames() -> None:
    sequence = UnitSequence("f", [3, 1, 3], [2, 1, 4])
    assert unit_boundaries(sequence, 50).tolist() == [40_000, 60_000]
    assert unit_boundaries(sequence, 100).tolist() == [20_000, 30_000]
    assert unit_boundaries(UnitSequence("f", [3], [7]), 50).tolist() == []
    assert unit_boundaries(UnitSequence("f", [], []), 50).tolist() == []


def most_pairs(reference: list[int], found: list[int]) -> int:
    """Every way to pair or leave the first reference boundary."""
    if not reference:
        return 0
    best = most_pairs(reference[1:], found)
    for j, time in enumerate(found):
        if abs(time - reference[0]) <= 20_000:
            best = max(best, 1 + most_pairs(reference[1:], found[:j] + found[j + 1 :]))
    return best


@given(times, times)
def test_as_many_boundaries_match_as_can(reference: list[int], found: list[int]) -> None:
    matched = num_matched(np.array(reference, np.int64), np.array(found, np.int64))
    assert matched == most_pairs(reference, found) == num_matched(np.array(found), np.array(reference))


def test_20_ms_is_near_enough_however_times_are_rounded() -> None:
    reference = phone_boundaries(intervals((0, 0.3, "A"), (0.3, 0.5, "B")), 0.5)
    assert num_matched(reference, unit_boundaries(UnitSequence("f", [0, 1], [14, 11]), 50)) == 1  # 0.28
    assert num_matched(reference, unit_boundaries(UnitSequence("f", [0, 1], [16, 9]), 50)) == 1  # 0.32
    assert num_matched(reference, unit_boundaries(UnitSequence("f", [0, 1], [13, 12]), 50)) == 0


def labelled(*utterances: tuple[list[int], list[int]]) -> LabelledUnits:
    """Utterances of one speaker each, from boundaries of phones and of units in frames of 20 ms, of 100 frames."""
    made = []
    for number, (phones, units) in enumerate(utterances):
        edges = [0, *phones, 100]
        spoken = intervals(*((a / 50, b / 50, "AB"[i % 2]) for i, (a, b) in enumerate(pairwise(edges))))
        durations = np.diff([0, *units, 100]).tolist()
        sequence = UnitSequence(f"f{number}", [i % 2 for i in range(len(durations))], durations)
        nothing = np.zeros(0, np.int32)
        made.append(LabelledUtterance(number, nothing, nothing, sequence, spoken, 2.0))
    speakers = [f"s{number}" for number in range(len(made))]
    return LabelledUnits(speakers, ["A", "B", "SIL"], Vocabulary(2, 50.0), made, "intervals.csv")


def values(units: LabelledUnits) -> dict[str, float]:
    return {name: measure.value for name, measure in boundary_measures(units).items()}


def test_the_measures_worked_by_hand() -> None:
    # 4 boundaries of phones, 5 of units, 3 match: 10 with 10, 30 with 31, 50 with 49.
    units = labelled(([10, 30, 50], [10, 20, 31, 49]), ([70], [90]))
    r_value = 1 - (math.hypot(1 - 0.75, 0.25) + abs(-0.25 + 0.75 - 1) / math.sqrt(2)) / 2
    assert values(units) == pytest.approx(
        {
            "boundary_precision": 3 / 5,
            "boundary_recall": 3 / 4,
            "boundary_f1": 6 / 9,
            "boundary_r_value": r_value,
        }
    )
    assert {name: measure.n for name, measure in boundary_measures(units).items()} == {
        "boundary_precision": 5,
        "boundary_recall": 4,
        "boundary_f1": 9,
        "boundary_r_value": 4,
    }


def test_boundaries_in_their_places_score_one_and_boundaries_everywhere_do_not() -> None:
    assert set(values(labelled(([10, 30], [10, 30]))).values()) == {1.0}
    everywhere = values(labelled(([10, 30], list(range(1, 100)))))
    assert everywhere["boundary_recall"] == 1.0
    assert everywhere["boundary_r_value"] < 0


def test_one_unit_throughout_finds_nothing() -> None:
    found = values(labelled(([10, 30], []), ([40], [])))
    assert (found["boundary_precision"], found["boundary_recall"], found["boundary_f1"]) == (0, 0, 0)
    assert found["boundary_r_value"] == pytest.approx(1 - (math.sqrt(2) + 0) / 2)


def test_an_annotation_without_boundaries_is_an_error() -> None:
    with pytest.raises(InputError, match=r"intervals\.csv: found no boundary between two phones, expected some"):
        boundary_measures(labelled(([], [10])))


frames = st.lists(st.integers(1, 99), min_size=1, max_size=12, unique=True).map(sorted)


@given(st.lists(st.tuples(frames, frames), min_size=2, max_size=4))
def test_the_measures_are_those_of_plain_loops_and_the_means_of_their_tables(
    utterances: list[tuple[list[int], list[int]]],
) -> None:
    annotated = sum(len(phones) for phones, _ in utterances)
    found = sum(len(units) for _, units in utterances)
    matched = 0
    for phones, units in utterances:
        left = list(units)
        for phone in phones:  # the earliest within one frame of 20 ms
            near = [unit for unit in left if abs(unit - phone) <= 1]
            if near:
                left.remove(min(near))
                matched += 1
    precision, recall = matched / found, matched / annotated
    over = found / annotated - 1
    made = labelled(*utterances)
    expected = {
        "boundary_precision": precision,
        "boundary_recall": recall,
        "boundary_f1": 2 * precision * recall / (precision + recall) if matched else 0.0,
        "boundary_r_value": 1 - (math.hypot(1 - recall, over) + abs(-over + recall - 1) / math.sqrt(2)) / 2,
    }
    measures = boundary_measures(made)
    assert {name: measure.value for name, measure in measures.items()} == pytest.approx(expected)
    for measure in measures.values():
        rows = measure.by_speaker(made.speakers)
        mean = np.average([row["score"] for row in rows], weights=[row["weight"] for row in rows])
        assert mean == pytest.approx(measure.value)


def test_the_table_of_the_r_value_says_how_it_changes_with_a_speaker() -> None:
    """The derivative of the R-value by the weight of a speaker, against a small difference."""
    utterances = [([10, 30, 50], [10, 20, 31, 49]), ([20, 70], [90]), ([15, 40, 60], [15, 41])]
    copies = 400
    measure = boundary_measures(labelled(*(utterances * copies)))["boundary_r_value"]
    before = measure.value
    for number, extra in enumerate(utterances):
        after = values(labelled(*(utterances * copies), extra))["boundary_r_value"]
        share = measure.numerator[number] - before * measure.denominator[number]
        assert after - before == pytest.approx(share / measure.denominator.sum(), rel=1e-2)
