"""Phone error rates against a recursive edit distance and every assignment there is, and cases worked by hand."""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.annotations import Interval
from eval.counts import count_units
from eval.labelled import LabelledUnits, LabelledUtterance
from eval.phone_errors import NO_PHONE, edit_distance, many_to_one, one_to_one, phone_error_rates
from units.records import UnitSequence, Vocabulary, run_length

symbols = st.lists(st.integers(0, 3), max_size=9)


def distance_by_recursion(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return distance(len(a), len(b))


@given(symbols, symbols)
def test_the_edit_distance_is_that_of_the_recursion(a: list[int], b: list[int]) -> None:
    assert edit_distance(np.array(a, np.int64), np.array(b, np.int64)) == distance_by_recursion(tuple(a), tuple(b))


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (4, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_one_to_one_is_the_best_of_all_assignments(shape: tuple[int, int], seed: int) -> None:
    joint = np.random.default_rng(seed).integers(0, 1000, shape)
    found = one_to_one(joint)
    phones = [phone for phone in found.tolist() if phone != NO_PHONE]
    assert len(set(phones)) == len(phones)
    agreement = sum(int(joint[phone, unit]) for unit, phone in enumerate(found) if phone != NO_PHONE)
    padded = np.zeros((max(shape), max(shape)), int)
    padded[: shape[0], : shape[1]] = joint
    size = range(len(padded))
    assert agreement == max(sum(int(padded[order[u], u]) for u in size) for order in permutations(size))
    assert many_to_one(joint).tolist() == [max(range(shape[0]), key=lambda p: joint[p, u]) for u in range(shape[1])]


def test_a_unit_is_given_no_phone_that_it_never_occurs_with() -> None:
    assert one_to_one(np.array([[5, 0, 4], [0, 0, 0]])).tolist() == [0, NO_PHONE, NO_PHONE]


def labelled(phones: list[str], *utterances: tuple[str, list[int]]) -> LabelledUnits:
    """Utterances of one speaker each: a letter (``_`` is silence) and a unit for every 10 ms."""
    made = []
    inventory = sorted(phones)
    num_units = 1 + max(unit for _, units in utterances for unit in units)
    for number, (letters, units) in enumerate(utterances):
        assert len(letters) == len(units)
        labels = np.array([inventory.index("SIL" if c == "_" else c) for c in letters], np.int32)
        sequence = UnitSequence(f"f{number}", *run_length(np.array(units)))
        intervals: list[Interval] = []  # boundaries are tested apart
        made.append(
            LabelledUtterance(number, np.array(units, np.int32), labels, sequence, intervals, len(letters) / 100)
        )
    speakers = [f"s{number}" for number in range(len(made))]
    return LabelledUnits(speakers, inventory, Vocabulary(num_units, 100.0), made, "intervals.csv")


def rates(units: LabelledUnits) -> dict[str, float]:
    return {name: measure.value for name, measure in phone_error_rates(units, count_units(units)).items()}


def test_units_that_are_the_phones_make_no_error() -> None:
    assert rates(labelled(["A", "B", "SIL"], ("_AABBA_", [2, 0, 0, 1, 1, 0, 2]))) == {
        "per_many_to_one": 0.0,
        "per_one_to_one": 0.0,
    }


def test_the_rate_worked_by_hand() -> None:
    # Units 0 and 1 are A, 2 is B, 3 is silence.
    units = labelled(
        ["A", "B", "SIL"],
        ("_AAAABBAA", [3, 0, 0, 0, 0, 2, 2, 2, 2]),  # read A B, an A deleted
        ("AABB__AA", [1, 1, 2, 2, 3, 1, 1, 1]),  # read A B A; the silence between goes
        ("AAAABBBB", [1, 0, 1, 0, 2, 2, 0, 2]),  # many-to-one A B A B: two inserted; one-to-one ? A ? A B A B
    )
    found = phone_error_rates(units, count_units(units))
    many, one = found["per_many_to_one"], found["per_one_to_one"]
    assert many.denominator.tolist() == one.denominator.tolist() == [3, 3, 2]
    assert many.n == 8
    assert many.numerator.tolist() == [1, 0, 2]
    # One-to-one, A is unit 0 (7 labels of A against 6), and unit 1 is no phone: 6 of its labels are errors.
    assert one_to_one(count_units(units).joint.sum(0)).tolist() == [0, NO_PHONE, 1, 2]
    # A B: 1 deletion.  ? B ?: 2 substitutions.  ? A ? A B A B against A B: 5 insertions.
    assert one.numerator.tolist() == [1, 2, 5]
    assert many.value == pytest.approx(3 / 8)


@given(st.lists(st.tuples(st.sampled_from("AB_"), st.integers(0, 4)), min_size=8, max_size=40))
def test_the_rates_are_those_of_plain_loops(steps: list[tuple[str, int]]) -> None:
    letters = "AB_" + "".join(letter for letter, _ in steps)
    units = [0, 1, 2] + [unit for _, unit in steps]
    made = labelled(["A", "B", "SIL"], (letters, units))
    counts: dict[tuple[str, int], int] = {}
    for letter, unit in zip(letters, units, strict=True):
        counts[letter, unit] = counts.get((letter, unit), 0) + 1
    read_as = {unit: max("AB_", key=lambda letter: counts.get((letter, unit), 0)) for unit in set(units)}

    def spoken(sequence: list[str]) -> tuple[int, ...]:
        kept = [x for i, x in enumerate(sequence) if i == 0 or sequence[i - 1] != x]
        return tuple(ord(x) for x in kept if x != "_")

    reference = spoken(list(letters))
    errors = distance_by_recursion(reference, spoken([read_as[unit] for unit in units]))
    assert rates(made)["per_many_to_one"] == pytest.approx(errors / len(reference))
