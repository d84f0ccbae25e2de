"""Tables: which layer, which rows, which marks, and the three forms."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_csv
from eval.further_tables import units_table, zeroshot_table
from eval.rendering import marks, to_csv, to_latex, to_markdown
from eval.representation_tables import table_1, table_6, table_7
from eval.results import Result, estimate, read_results, selected_layers
from eval.scores import FIELDS
from eval.tables import arranged, main, write_table
from eval.unit_tables import table_2, table_3, table_8


def result(metric: str, value: float, **fields: Any) -> Result:
    defaults = {"source": "ours", "model": "SpidR", "encoder": "spidr", "layer": 6, "dataset": "dev"}
    return Result(**(defaults | {"metric": metric, "value": value} | fields))


def abx(value: float, *, across: float | None = None, **fields: Any) -> list[Result]:
    return [
        result("abx_continuous", value, condition="within", **fields),
        result("abx_continuous", value if across is None else across, condition="across", **fields),
    ]


# Rows of the paper's table 2: model, encoder, layer, quantizer, ABX, PNMI, sWUGGY all, in-vocab, sBLIMP, tSC.
PAPER = [
    ("HuBERT", "hubert", 11, "kmeans256", 7.32, 0.636, 65.15, 73.21, 55.68, 67.66),
    ("DinoSR", "dinosr", 5, "codebook", 7.89, 0.620, 57.50, 60.35, 55.97, 68.04),
    ("DinoSR", "dinosr", 5, "kmeans256", 10.81, 0.588, 55.76, 57.81, 54.14, 64.72),
    ("SpidR", "spidr", 6, "codebook", 6.32, 0.602, 70.24, 80.45, 57.48, 69.37),
    ("SpidR", "spidr", 6, "kmeans256", 7.10, 0.633, 71.90, 82.33, 57.09, 70.55),
]
METRICS = ("abx_units", "pnmi", "swuggy_all", "swuggy_in_vocab", "sblimp", "tsc")


@pytest.fixture
def paper() -> list[Result]:
    rows = []
    for model, encoder, layer, quantizer, *values in PAPER:
        system = {"model": model, "encoder": encoder, "layer": layer, "quantizer": quantizer, "num_units": 256}
        for metric, value in zip(METRICS, values, strict=True):
            slm = {} if metric in ("abx_units", "pnmi") else {"slm": "OPT-125M", "corpus": "Libri-Light", "hours": 6e3}
            condition = "within" if metric == "abx_units" else None
            fraction = value if metric == "pnmi" else value / 100
            rows.append(result(metric, fraction, condition=condition, **system, **slm))
    return rows


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


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


def test_table_2_prints_the_papers_numbers_and_marks_by_value(paper: list[Result]) -> None:
    table = to_markdown(table_2(paper))
    rows = {tuple(cells[:3]): cells[3:] for cells in map(cells_of, table.splitlines()) if cells}
    # The paper's own marks, and those that the rows left out here would not change.
    assert rows["HuBERT", "11", "K-means"] == ["256", "7.32", "**0.636**", "65.15", "73.21", "55.68", "67.66"]
    assert rows["SpidR", "6", "Codebook"] == (
        ["256", "**6.32**", "0.602", "<u>70.24</u>", "<u>80.45</u>", "**57.48**", "<u>69.37</u>"]
    )
    assert rows["SpidR", "6", "K-means"] == (
        ["256", "<u>7.10</u>", "<u>0.633</u>", "**71.90**", "**82.33**", "<u>57.09</u>", "**70.55**"]
    )
    assert rows["DinoSR", "5", "Codebook"][1:] == ["7.89", "0.620", "57.50", "60.35", "55.97", "68.04"]


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def test_the_topline_stands_last_and_is_not_marked(paper: list[Result]) -> None:
    phones = {"model": "Phones", "encoder": "phones", "layer": None, "num_units": 40, "slm": "OPT-125M"}
    results = [result("tsc", 0.9, **phones), result("pnmi", 1.0, **(phones | {"slm": None})), *paper]
    table = table_2(results)
    assert table.rows[-1].labels[0] == "Phones"
    last = list(table.blocks())[-1]
    assert last[0] == "Topline"
    assert set(last[1][0][1]) == {None}
    assert "| Phones " in to_markdown(table)
    assert "**0.636**" in to_markdown(table)


def test_numbers_that_print_alike_share_a_mark() -> None:
    pnmi = [0.6301, 0.6304, 0.61, 0.5]
    results = [result("pnmi", value, model=f"m{i}", encoder=f"e{i}") for i, value in enumerate(pnmi)]
    table = table_2(results)
    assert [row[1] for row in marks(table.rows, table.columns)] == ["best", "best", "second", None]


def test_one_number_is_neither_best_nor_worst() -> None:
    table = table_2([result("pnmi", 0.6)])
    assert marks(table.rows, table.columns)[0] == [None] * 6


def test_several_seeds_are_averaged_and_their_spread_is_printed() -> None:
    slm = {"slm": "opt", "quantizer": "kmeans256", "num_units": 256}
    seeds = [result("tsc", value, seed=seed, **slm) for seed, value in enumerate((0.60, 0.62, 0.64))]
    assert "62.00 ± 2.00" in to_markdown(table_2(seeds))
    mean = estimate(seeds)
    assert mean is not None
    assert mean.value == pytest.approx(0.62)
    assert mean.spread == pytest.approx(0.02)


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


def test_several_sources_are_set_in_blocks(paper: list[Result]) -> None:
    theirs = [r.model_copy(update={"source": "Poli et al. 2025"}) for r in paper]
    assert [block for block, _ in table_2([*paper, *theirs]).blocks()] == ["ours", "Poli et al. 2025"]


def test_intervals_stand_in_the_csv_below_the_markdown_and_in_small_print_in_the_latex_unless_unwanted() -> None:
    table = table_2([result("pnmi", 0.6, low=0.58, high=0.62)])
    row = read(to_csv(table))[0]
    assert (row["PNMI low"], row["PNMI high"]) == ("0.580", "0.620")
    assert "0.580–0.620" in to_markdown(table)
    assert r"\scriptsize 0.580--0.620" in to_latex(table)
    assert "0.580" not in to_markdown(table, intervals=False) + to_latex(table, intervals=False)


def test_the_latex_is_balanced_and_escaped(paper: list[Result]) -> None:
    renamed = [r.model_copy(update={"model": r.model + "_50% & {x}"}) for r in paper]
    text = to_latex(table_2(renamed))
    assert r"SpidR\_50\% \& \{x\}" in text
    plain = re.sub(r"\\[\\{}&%_]", "", text)
    assert plain.count("{") == plain.count("}")
    assert text.count(r"\begin") == text.count(r"\end") == 2
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {9}
    assert not set("↑↓−±–") & set(text)


def test_tables_are_the_same_bytes_twice(paper: list[Result], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_table(table_2(paper), "table_2", tmp_path / folder)
    for extension in ("csv", "md", "tex"):
        one, two = (tmp_path / folder / f"table_2.{extension}" for folder in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()


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


def written(path: Path, *rows: str, header: str = "source,model,encoder,metric,value") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


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
    with pytest.raises(InputError, match="Table 2: found rows of ours, expected some of published too"):
        run("--table", "2", "--scores", str(scores), "--beside", "published")
    with pytest.raises(InputError, match=r"--groups: found '\{\"a\": 1\}', expected an object of encoder"):
        run("--table", "2", "--scores", str(scores), "--groups", '{"a": 1}')


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
