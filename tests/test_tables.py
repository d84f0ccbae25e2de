"""Tables: which rows and columns each has, and in which order."""

from pathlib import Path
from typing import Any

import pytest
from score_rows import abx, read, result, written

from artifacts.errors import InputError
from eval.further_tables import units_table, zeroshot_table
from eval.rendering import to_csv
from eval.representation_tables import table_1, table_6, table_7
from eval.results import Result
from eval.tables import arranged, main
from eval.unit_tables import table_2, table_3, table_8


def test_table_1_has_a_column_for_each_dataset_that_is_there_and_blanks_for_what_is_not() -> None:
    results = [
        *abx(0.0332, across=0.0366, dataset="dev-clean"),
        *abx(0.0374, across=0.0495, dataset="dev-other"),
        *abx(0.0338, across=0.0401, dataset="dev-clean", model="HuBERT", encoder="hubert", layer=11),
        result("map_words", 0.665, dataset="dev-clean", condition="strict"),
    ]
    spidr, hubert = read(to_csv(table_1(results)))
    assert spidr["ABX within speaker, dev-clean (%)"] == "3.32"
    assert spidr["ABX across speaker, dev-other (%)"] == "4.95"
    assert spidr["MAP words, dev-clean (%)"] == "66.50"
    assert hubert["Layer"] == "11"
    assert hubert["ABX within speaker, dev-other (%)"] == hubert["MAP words, dev-clean (%)"] == ""


def test_map_by_another_formula_has_a_column_of_its_own() -> None:
    maps = [result("map_words", value, condition=how) for value, how in ((0.4, "strict"), (0.5, "speech-map"))]
    names = [column.name for column in table_1([*abx(0.04), *maps]).columns]
    assert names[-2:] == ["MAP words, dev", "MAP words, dev (speech-map)"]


def test_two_language_models_on_the_same_units_are_two_rows_with_the_same_unit_quality() -> None:
    units = {"quantizer": "kmeans256", "num_units": 256}
    results = [
        result("pnmi", 0.6, **units),
        *(result("tsc", 0.7, slm="opt", corpus="ll", hours=hours, **units) for hours in (577, 5770)),
    ]
    table = table_2(results)
    assert [row.labels[-1] for row in table.rows] == ["opt (ll, 577 h)", "opt (ll, 5770 h)"]
    assert [row.cells[1].value for row in table.rows if row.cells[1]] == [0.6, 0.6]


def test_without_language_models_the_selected_layer_is_shown() -> None:
    results = [*abx(0.05, layer=1), *abx(0.04, layer=2), *(result("pnmi", 0.6, layer=k) for k in (1, 2))]
    assert [row.labels[1] for row in table_2(results).rows] == ["2"]


def test_a_table_without_its_scores_is_refused() -> None:
    with pytest.raises(InputError, match="table 1: found no score, expected one of abx_continuous"):
        table_1([result("pnmi", 0.6)])


def test_a_group_is_a_block_of_table_7_and_of_no_other() -> None:
    results = [
        *abx(0.05, model="A", encoder="a"),
        *abx(0.04, model="B", encoder="b"),
        *abx(0.03, model="C", encoder="c"),
    ]
    results = arranged(results, {"c": "supervised", "b": None, "a": "supervised"})
    assert [block for block, _ in table_1(results).blocks()] == [""]
    blocks = [(block, [row.labels[0] for row, _ in rows]) for block, rows in table_7(results).blocks()]
    assert blocks == [("supervised", ["C", "A"]), ("", ["B"])]


def test_ours_come_in_the_order_of_the_experiment_s_encoders_and_others_as_they_are() -> None:
    theirs = [*abx(0.04, model="B", encoder="b", source="them"), *abx(0.04, model="A", encoder="a", source="them")]
    ours = [*abx(0.04, model="A", encoder="a"), *abx(0.04, model="Z", encoder="z"), *abx(0.04, model="B", encoder="b")]
    rows = table_1(arranged([*ours, *theirs], {"b": None, "a": None})).rows
    assert [row.labels[0] for row in rows] == ["B", "A", "Z", "B", "A"]
    assert [row.source for row in rows] == ["ours", "ours", "ours", "them", "them"]


def test_table_3_has_a_block_for_each_number_of_units_smallest_first() -> None:
    def spoken(num_units: int, **more: Any) -> Result:
        units = {"quantizer": f"kmeans{num_units}", "num_units": num_units, "slm": "opt", "corpus": "train"}
        return result("sblimp", 0.5 + num_units / 1e4, **(units | more))

    phones = spoken(40, model="Phones", encoder="phones", layer=None, quantizer=None)
    table = table_3([spoken(500), spoken(50), phones, spoken(50, model="HuBERT", encoder="hubert")])
    found = [(block, [row.labels for row, _ in rows]) for block, rows in table.blocks()]
    assert found == [
        ("50 units", [("SpidR", "K-means"), ("HuBERT", "K-means")]),
        ("500 units", [("SpidR", "K-means")]),
        ("Topline", [("Phones", "")]),
    ]
    two_layers = table_3([spoken(50), spoken(50, layer=7)])
    assert two_layers.labels == ("Model", "Layer", "Units")


def test_table_6_shows_the_selected_layer_or_all_where_that_one_has_no_codebook() -> None:
    def predicted(layer: int) -> Result:
        units = {"quantizer": "codebook", "num_units": 64}
        return result("abx_codebook", layer / 100, condition="across", layer=layer, **units)

    layers = [predicted(5), predicted(6)]
    assert [row.labels[1] for row in table_6([*layers, *abx(0.04, layer=6), *abx(0.05, layer=5)]).rows] == ["6"]
    assert [row.labels[1] for row in table_6([*layers, *abx(0.04, layer=2)]).rows] == ["5", "6"]
    assert [row.labels[1] for row in table_6(layers).rows] == ["5", "6"]
    assert "All codebooks are of size 64." in table_6(layers).caption


def test_table_8_joins_the_selected_layer_s_features_and_units() -> None:
    units = {"quantizer": "codebook", "num_units": 256}
    results = [
        *abx(0.04, across=0.06, layer=6),
        *abx(0.09, layer=5),
        result("map_words", 0.6, condition="strict", dataset="a"),
        result("map_words", 0.4, condition="strict", dataset="b"),
        *(result("abx_units", value, condition=how, **units) for how, value in (("within", 0.07), ("across", 0.09))),
        result("pnmi", 0.6, **units),
        result("pnmi", 0.1, layer=5, **units),
        *abx(0.5, model="MFCC", encoder="mfcc", layer=1),
    ]
    table = table_8(results)
    assert [row.labels for row in table.rows] == [("SpidR", "6"), ("MFCC", "1")]
    spidr, mfcc = read(to_csv(table))
    # Means by hand: (4 + 6) / 2, (60 + 40) / 2, (7 + 9) / 2.
    assert [spidr[f"{name} (%)"] for name in ("ABX, continuous", "MAP, continuous", "ABX, units")] == [
        *("5.00", "50.00", "8.00")
    ]
    assert spidr["PNMI, units"] == "0.600"
    assert mfcc["ABX, continuous (%)"] == "50.00"
    assert mfcc["PNMI, units"] == ""


def test_metrics_that_the_paper_does_not_have_are_in_tables_of_their_own() -> None:
    units = {"quantizer": "kmeans50", "num_units": 50}
    spoken = {**units, "slm": "opt", "corpus": "train"}
    table = units_table([result("per_many_to_one", 0.4, **units), result("boundary_f1", 0.7, **units)])
    assert [column.name for column in table.columns] == ["PER, many-to-one", "boundary F1"]
    assert read(to_csv(table))[0]["PER, many-to-one (%)"] == "40.00"
    zeroshot = zeroshot_table(
        [
            result("salmon", 0.6, condition="gender_consistency", **spoken),
            result("ssc", 0.55, **spoken),
            *(result("prosaudit", v, condition=how, **spoken) for how, v in (("protosyntax", 0.7), ("lexical", 0.8))),
        ]
    )
    assert [column.name for column in zeroshot.columns] == [
        *("sSC", "prosAudit, protosyntax", "prosAudit, lexical", "SALMon, gender consistency")
    ]
    assert [cell.value for cell in zeroshot.rows[0].cells if cell] == [0.55, 0.7, 0.8, 0.6]
    with pytest.raises(InputError, match="the table of zero-shot metrics: found no score"):
        zeroshot_table([result("tsc", 0.5, **spoken)])


def test_a_published_score_is_shown_in_its_own_table_alone() -> None:
    theirs = [r.model_copy(update={"source": "published", "table": 7}) for r in abx(0.04)]
    with pytest.raises(InputError, match="table 1: found no score"):
        table_1(theirs)
    assert len(table_7(theirs).rows) == 1


def test_the_entry_point_selects_and_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "source,model,encoder,quantizer,num_units,metric,value"
    scores = written(tmp_path / "s.csv", "ours,A,a,kmeans50,50,pnmi,0.5", "ours,A,a,kmeans9,9,pnmi,0.4", header=header)

    def run(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["tables", *arguments, "--output", str(tmp_path / "out")])
        main()

    run("--table", "2", "--scores", str(scores), "--select", '{"table_2": {"num_units": [9]}}')
    assert [row["V"] for row in read((tmp_path / "out" / "table_2.csv").read_text())] == ["9"]
    with pytest.raises(InputError, match=r"--footprint: missing, expected footprint\.csv for table 4"):
        run("--table", "4")
    with pytest.raises(InputError, match=r"--beside: found .published., expected a source of the scores: ours"):
        run("--table", "2", "--scores", str(scores), "--beside", "published")
    with pytest.raises(InputError, match=r"--groups: found '\{\"a\": 1\}', expected an object of encoder"):
        run("--table", "2", "--scores", str(scores), "--groups", '{"a": 1}')
