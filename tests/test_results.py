"""The scores that tables are made of: read from files of ours and from elsewhere, and the layer they select."""

from pathlib import Path

import pytest
from score_rows import abx, result, written

from artifacts.errors import InputError
from artifacts.files import write_csv
from eval.rendering import to_markdown
from eval.results import read_results, selected_layers
from eval.scores import FIELDS
from eval.unit_tables import table_2


def test_the_selected_layer_has_the_lowest_mean_over_datasets_and_conditions() -> None:
    results = [
        *abx(0.03, across=0.09, layer=5),  # best within, but not on average
        *abx(0.04, across=0.05, layer=6),
        *abx(0.05, across=0.05, layer=7),
    ]
    assert selected_layers(results) == {("ours", "spidr"): 6}


def test_a_layer_that_lacks_a_condition_is_not_selected() -> None:
    only_within = result("abx_continuous", 0.01, condition="within", layer=4)
    assert selected_layers([only_within, *abx(0.04, layer=6)]) == {("ours", "spidr"): 6}


def test_of_equal_layers_the_first_is_selected() -> None:
    assert selected_layers([*abx(0.04, layer=7), *abx(0.04, layer=6)]) == {("ours", "spidr"): 6}


def test_abx_in_any_context_takes_no_part_in_the_selection() -> None:
    any_context = result("abx_continuous", 0.0, condition="within_any", layer=1)
    assert selected_layers([any_context, *abx(0.04, layer=6)]) == {("ours", "spidr"): 6}


def test_scores_from_elsewhere_need_only_the_fields_they_have(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.csv", "mine,A,a,pnmi,0.61", "mine,B,b,pnmi,0.55")
    table = table_2(read_results([path]))
    assert [row.labels for row in table.rows] == [("A", "", "", ""), ("B", "", "", "")]
    assert "**0.610**" in to_markdown(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mine,A,a,abx_units,0.1", "line 2: condition: missing, expected one of within, across or"),
        ("mine,A,a,pnmi,", "line 2: value: missing"),
        (",A,a,pnmi,0.1", "line 2: source: missing"),
    ],
)
def test_what_a_score_from_elsewhere_lacks_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"mine.csv, {message}"):
        read_results([written(tmp_path / "mine.csv", row)])


def test_a_column_that_every_score_needs_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.csv", "A,a,pnmi,1", header="model,encoder,metric,value")
    with pytest.raises(InputError, match=r"mine.csv, line 1: .* expected also source"):
        read_results([path])


def test_what_two_files_say_alike_is_read_once_and_a_contradiction_is_named(tmp_path: Path) -> None:
    one = written(tmp_path / "one.csv", "mine,A,a,pnmi,0.61")
    same = written(tmp_path / "same.csv", "mine,A,a,pnmi,0.610", "mine,A,a,tsc,0.7")
    assert [r.metric for r in read_results([one, same])] == ["pnmi", "tsc"]
    other = written(tmp_path / "other.csv", "mine,A,a,pnmi,0.62")
    with pytest.raises(InputError, match=r"other.csv, line 2: found 0.62, but 0.61 in .*one.csv, line 2"):
        read_results([one, other])


def test_a_bad_number_in_the_scores_is_named_by_line_and_column(tmp_path: Path) -> None:
    row = {**dict.fromkeys(FIELDS, ""), "source": "ours", "model": "SpidR", "encoder": "spidr"}
    rows = [row | {"metric": "pnmi", "dataset": "dev", "value": value} for value in ("0.5", "high")]
    write_csv(tmp_path / "scores.csv", FIELDS, rows)
    with pytest.raises(InputError, match=r"scores.csv, line 3: value: found \"high\""):
        read_results([tmp_path / "scores.csv"])


def test_one_corpus_has_one_number_of_hours_whatever_the_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    rows = [result("tsc", 0.7, slm="opt", corpus="c", hours=hours, quantizer="k") for hours in (0.7796, 0.7811, 7.8)]
    write_csv(path, FIELDS, ({field: getattr(row, field) for field in FIELDS} for row in rows))
    assert [row.hours for row in read_results([path])] == [0.7811, 0.7811, 7.8]
