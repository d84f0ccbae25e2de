"""Figure 10: P(phone | unit) worked by hand, the order of rows and columns, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_json
from eval.phone_classes import CLASSES, phone_class
from eval.phone_given_unit import draw_phone_given_unit, of_selected_layer, read_unit_phones
from eval.scores import Subject, write_score

# Units 0, 2 and 5 occur. T is more frequent than P, S is the only fricative, AH0 the only vowel.
COUNTS = "phone,unit,count\nS,0,3\nT,0,1\nT,2,6\nP,2,2\nAH0,5,8\nSIL,5,2\n"


def write_pnmi(folder: Path, counts: str = COUNTS, **fields: Any) -> Path:
    given = {"model": "SpidR", "encoder": "spidr", "layer": 6, "quantizer": "kmeans50", "num_units": 50} | fields
    subject = Subject(**given)
    score: dict[str, Any] = {"dataset": "dev", "value": 0.5, "n": 22, "conditions": {}, "provenance": {}}
    path = write_score(folder, subject, metric="pnmi", items=(("speaker",), []), **score)
    (folder / "joint_counts.dev.csv").write_text(counts)
    return path


def test_rows_are_phones_by_frequency_and_columns_sum_to_one(tmp_path: Path) -> None:
    system = read_unit_phones(write_pnmi(tmp_path))
    assert list(system.phones) == ["AH0", "T", "S", "P", "SIL"]
    found = system.given_unit()
    # Units by their most likely phone: 5 (AH0), 2 (T), 0 (S).
    assert found.tolist() == [
        pytest.approx(row) for row in ([0.8, 0, 0], [0, 0.75, 0.25], [0, 0, 0.75], [0, 0.25, 0], [0.2, 0, 0])
    ]


def test_units_of_one_phone_are_sorted_by_how_likely_it_is(tmp_path: Path) -> None:
    system = read_unit_phones(write_pnmi(tmp_path, "phone,unit,count\nT,0,6\nS,0,4\nT,1,9\nS,1,1\nS,2,1\n"))
    assert system.given_unit()[0].tolist() == pytest.approx([0.9, 0.6, 0])


def test_the_picture_is_the_matrix_with_ipa_beside_it_codebooks_first(tmp_path: Path) -> None:
    kmeans = read_unit_phones(write_pnmi(tmp_path / "a"))
    codebook = read_unit_phones(write_pnmi(tmp_path / "b", quantizer="codebook"))
    left, right, *_ = draw_phone_given_unit([kmeans, codebook]).axes
    assert left.get_title(loc="left") == "SpidR, layer 6, Codebook: PNMI 0.500"
    assert right.get_title(loc="left") == "SpidR, layer 6, K-means: PNMI 0.500"
    assert [label.get_text() for label in right.get_yticklabels()] == ["ə", "t", "s", "p", "sil"]
    assert right.images[0].get_array().tolist() == kmeans.given_unit().tolist()
    assert right.get_xlabel() == "3 active units"


def test_the_selected_layer_is_taken(tmp_path: Path) -> None:
    systems = [read_unit_phones(write_pnmi(tmp_path / f"{k}", layer=k)) for k in (5, 6)]
    selection = tmp_path / "spidr.json"
    write_json(selection, {"encoder": "spidr", "layer": 5})
    assert [system.layer for system in of_selected_layer(systems, selection)] == [5]
    assert of_selected_layer(systems, None) == systems
    write_json(selection, {"encoder": "spidr", "layer": 9})
    with pytest.raises(InputError, match="--scores: found none of layer 9"):
        of_selected_layer(systems, selection)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("phone,unit,count\n", "joint_counts.dev.csv: found no counts"),
        ("phone,unit,count\nT,0,0\n", "joint_counts.dev.csv, line 2: count: found"),
        ("phone,unit,count\nT,0,1\nT,0,2\n", "line 3: phone T with unit 0 again, expected each once"),
    ],
)
def test_malformed_counts_are_one_line(tmp_path: Path, counts: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_unit_phones(write_pnmi(tmp_path, counts))


def test_another_score_and_absent_counts_are_refused(tmp_path: Path) -> None:
    path = write_pnmi(tmp_path)
    (tmp_path / "joint_counts.dev.csv").unlink()
    with pytest.raises(InputError, match=r"joint_counts.dev.csv: no such file"):
        read_unit_phones(path)
    with pytest.raises(InputError, match="found pnmi of None, expected pnmi of a system's units"):
        read_unit_phones(write_pnmi(tmp_path / "phones", quantizer=None))


def test_every_arpabet_phone_has_a_class_whatever_its_stress() -> None:
    assert [phone_class(label) for label in ("AH", "AH0", "ER1", "DX", "JH", "HH", "NG", "Y", "SIL", "ɬ")] == [
        *["Vowels"] * 3,
        *["Stops", "Affricates", "Fricatives", "Nasals", "Approximants", "Silence", "Other"],
    ]
    from eval.ipa import CONSONANTS, VOWELS

    assert {phone_class(label) for label in VOWELS | CONSONANTS} == {*CLASSES} - {"Silence", "Other"}
