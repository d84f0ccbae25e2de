"""Published and ours side by side: a difference only where both are of one system, over the same data."""

from typing import Any

import pytest

from eval.beside import beside
from eval.rendering import Table, to_latex, to_markdown
from eval.representation_tables import table_1, table_6
from eval.results import Result
from eval.unit_tables import table_2

SYSTEM = {"model": "SpidR", "encoder": "spidr-base", "layer": 6}
UNITS = SYSTEM | {"quantizer": "kmeans256", "num_units": 256}
SPOKEN = UNITS | {"slm": "opt-125m", "corpus": "librilight-medium", "hours": 5770.0}


def theirs(metric: str, value: float, **fields: Any) -> Result:
    return Result(**{"source": "published", "dataset": "dev-clean", "metric": metric, "value": value} | fields)


def ours(metric: str, value: float, **fields: Any) -> Result:
    return theirs(metric, value, **(fields | {"source": "ours"}))


def shown(table: Table, column: str) -> list[str]:
    """The texts of a column, row by row."""
    (index,) = (i for i, one in enumerate(table.columns) if one.name == column)
    return [table.columns[index].text(row.cells[index]) for row in table.rows]


def test_published_ours_and_the_difference_stand_in_three_columns() -> None:
    theirs_of_two = [theirs("pnmi", 0.633, **UNITS), theirs("pnmi", 0.5, **(UNITS | {"encoder": "x", "model": "X"}))]
    table = beside(table_2([*theirs_of_two, ours("pnmi", 0.625, **UNITS)]), "published")
    assert [row.labels[0] for row in table.rows] == ["SpidR", "X"]
    assert shown(table, "PNMI, published") == ["0.633", "0.500"]
    assert shown(table, "PNMI, ours") == ["0.625", ""]
    assert shown(table, "PNMI, difference") == ["−0.008", ""]
    assert "ABX" in [column.name for column in table.columns]  # neither has one: it stays one column
    assert [heading for heading, _ in table.blocks()] == [""]
    assert "**0.633**" in to_markdown(table)
    assert r"\multicolumn{3}{c}{PNMI}" in to_latex(table)
    assert r"\cmidrule(lr){6-8}" in to_latex(table)


@pytest.mark.parametrize(
    "changed",
    [{"layer": 7}, {"quantizer": "codebook"}, {"num_units": 50, "quantizer": "kmeans50"}, {"encoder": "mine"}],
)
def test_another_system_is_another_row(changed: dict[str, Any]) -> None:
    table = beside(table_2([theirs("pnmi", 0.6, **UNITS), ours("pnmi", 0.7, **(UNITS | changed))]), "published")
    assert shown(table, "PNMI, difference") == ["", ""]


@pytest.mark.parametrize("changed", [{"slm": "gpt"}, {"corpus": "mine"}, {"hours": 577.0}])
def test_another_language_model_is_another_row(changed: dict[str, Any]) -> None:
    table = beside(table_2([theirs("tsc", 0.6, **SPOKEN), ours("tsc", 0.7, **(SPOKEN | changed))]), "published")
    assert shown(table, "tSC, difference") == ["", ""]


SPIN = {"model": "HuBERT + Spin", "encoder": "spin", "quantizer": "codebook"}


def spin(tell: Any, value: float, **fields: Any) -> Result:
    """A score of Spin's codebook, by `theirs` or by `ours`."""
    found: Result = tell("abx_codebook", value, condition="within", **(SPIN | fields))
    return found


def test_what_one_source_does_not_tell_of_the_only_such_units_the_other_may() -> None:
    published = spin(theirs, 0.04, num_units=256)
    table = beside(table_6([published, spin(ours, 0.05, layer=12)]), "published")
    assert [row.labels for row in table.rows] == [("HuBERT + Spin", "12", "256")]
    assert shown(table, "ABX within speaker, dev-clean, difference") == ["+1.00"]


@pytest.mark.parametrize(
    "results",
    [
        [spin(theirs, 0.04), spin(ours, 0.05, layer=12), spin(ours, 0.06, layer=11)],
        [spin(theirs, 0.04, layer=11), spin(theirs, 0.04, layer=12), spin(ours, 0.05)],
        [spin(theirs, 0.04, num_units=256), spin(ours, 0.05, layer=12, num_units=2048)],
        [spin(theirs, 0.04), spin(ours, 0.05, layer=12, quantizer="heads")],
        [spin(theirs, 0.04), spin(ours, 0.05, layer=12, encoder="mine")],
    ],
)
def test_units_that_may_be_several_or_are_others_are_rows_of_their_own(results: list[Result]) -> None:
    table = beside(table_6(results), "published")
    assert len(table.rows) == len(results)
    assert not any(shown(table, "ABX within speaker, dev-clean, difference"))


def test_a_layer_that_both_tell_is_not_taken_for_the_one_that_is_not_told() -> None:
    results = [spin(theirs, 0.04), spin(theirs, 0.05, layer=12), spin(ours, 0.07, layer=12)]
    table = beside(table_6(results), "published")
    assert [row.labels[1] for row in table.rows] == ["", "12"]
    assert shown(table, "ABX within speaker, dev-clean, difference") == ["", "+2.00"]


def test_units_without_a_language_model_are_set_beside_units_with_one() -> None:
    published = [theirs("pnmi", 0.6, **UNITS), theirs("tsc", 0.7, **SPOKEN)]
    table = beside(table_2([*published, ours("pnmi", 0.65, **UNITS)]), "published")
    assert shown(table, "PNMI, difference") == ["+0.050"]
    assert shown(table, "tSC") == ["70.00"]


def test_hours_counted_in_frames_are_those_published() -> None:
    counted = SPOKEN | {"hours": 5770.0}
    table = beside(table_2([theirs("tsc", 0.7, **SPOKEN), ours("tsc", 0.71, **counted)]), "published")
    assert shown(table, "tSC, difference") == ["+1.00"]


def test_a_published_mean_is_compared_only_with_the_mean_over_the_same_datasets_and_conditions() -> None:
    mean = theirs("abx_units", 0.07, **UNITS, condition="mean").model_copy(update={"dataset": "dev-clean_dev-other"})
    parts = [
        ours("abx_units", value, **UNITS, condition=condition).model_copy(update={"dataset": dataset})
        for value, condition, dataset in (
            *((0.05, "within", "dev-clean"), (0.06, "across", "dev-clean")),
            *((0.07, "within", "dev-other"), (0.08, "across", "dev-other")),
        )
    ]
    assert shown(beside(table_2([mean, *parts]), "published"), "ABX, difference") == ["−0.50"]  # 6.5 - 7
    assert shown(beside(table_2([mean, *parts[:3]]), "published"), "ABX, difference") == [""]
    elsewhere = [part.model_copy(update={"dataset": part.dataset.replace("dev", "test")}) for part in parts]
    assert shown(beside(table_2([mean, *elsewhere]), "published"), "ABX, difference") == [""]


def test_no_difference_is_taken_between_formulas_of_map() -> None:
    features = [theirs("abx_continuous", 0.03, condition="within", **SYSTEM)]
    features += [ours("abx_continuous", 0.04, condition="within", **SYSTEM)]
    words = [
        theirs("map_words", 0.6, condition="speech-map", **SYSTEM),
        ours("map_words", 0.5, condition="strict", **SYSTEM),
    ]
    table = beside(table_1([*features, *words]), "published")
    assert [column.name for column in table.columns if column.is_difference] == [
        "ABX within speaker, dev-clean, difference"
    ]
    assert shown(table, "ABX within speaker, dev-clean, difference") == ["+1.00"]
    assert shown(table, "MAP words, dev-clean") == ["50.00"]
    assert shown(table, "MAP words, dev-clean (speech-map)") == ["60.00"]


@pytest.mark.parametrize(
    ("result", "missing"), [(ours("pnmi", 0.6, **UNITS), "published"), (theirs("pnmi", 0.6, **UNITS), "ours")]
)
def test_a_table_with_rows_of_one_source_stays_as_it_is_and_says_so(result: Result, missing: str) -> None:
    table = beside(table_2([result]), "published")
    assert table.rows == table_2([result]).rows
    assert table.columns == table_2([result]).columns
    assert table.caption.endswith(f"No row is of {missing}: nothing stands side by side.")
