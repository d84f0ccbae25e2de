"""Selections: which scores a table or a figure shows."""

import pytest

from artifacts.errors import InputError
from eval.results import Result
from eval.selection import Selection, parse_selections, select

FEATURES = Result(source="ours", model="SpidR", encoder="spidr", layer=6, metric="map_words", dataset="dev", value=0.6)
SMALL = FEATURES.model_copy(update={"metric": "pnmi", "quantizer": "kmeans50", "num_units": 50})
LARGE = SMALL.model_copy(update={"quantizer": "kmeans256", "num_units": 256, "layer": 7})
SPOKEN = LARGE.model_copy(update={"metric": "tsc", "slm": "opt", "corpus": "train", "hours": 577.0})


def test_a_score_is_kept_where_its_fields_are_empty_or_have_one_of_the_values() -> None:
    results = [FEATURES, SMALL, LARGE, SPOKEN]
    assert select(results, {}) == results
    assert select(results, {"num_units": [50]}) == [FEATURES, SMALL]
    assert select(results, {"num_units": [50, 256]}) == results
    assert select(results, {"num_units": [256], "layer": [6]}) == [FEATURES]
    assert select(results, {"quantizer": ["kmeans256"], "metric": ["tsc", "pnmi"]}) == [LARGE, SPOKEN]
    assert select(results, {"num_units": []}) == [FEATURES]


def test_hours_are_those_a_person_writes_down() -> None:
    assert select([SPOKEN], {"hours": [580]}) == [SPOKEN]
    assert select([SPOKEN], {"hours": [600]}) == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"units": [50]}, "units: no field of a score, expected one of model, encoder, layer"),
        ({"layer": ["6"]}, "layer: found '6', expected a valid integer"),
        ({"encoder": [6]}, "encoder: found 6, expected a valid string"),
    ],
)
def test_what_no_score_can_have_is_refused(wanted: Selection, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select([FEATURES], wanted)


def test_the_command_line_takes_selections_by_table_and_figure() -> None:
    text = '{"table_2": {"num_units": [256]}, "figure_12": {"encoder": ["spidr"], "layer": [6]}}'
    assert parse_selections(text) == {
        "table_2": {"num_units": [256]},
        "figure_12": {"encoder": ["spidr"], "layer": [6]},
    }
    assert parse_selections("{}") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--select: not JSON"),
        ('{"table_2": {"units": [50]}}', "--select: table_2.units: no field of a score"),
        ('{"table_2": {"num_units": 50}}', "--select: .*expected a valid list"),
    ],
)
def test_a_selection_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_selections(text)
