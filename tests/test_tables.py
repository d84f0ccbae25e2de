"""Tables: which layer, which rows, which marks, and the three forms."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_csv
from eval.rendering import marks, to_csv, to_latex, to_markdown
from eval.results import Result, estimate, read_results, selected_layers
from eval.scores import FIELDS
from eval.tables import table_1, table_2, write_table


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


def test_intervals_stand_in_the_csv_and_below_the_markdown() -> None:
    table = table_2([result("pnmi", 0.6, low=0.58, high=0.62)])
    row = read(to_csv(table))[0]
    assert (row["PNMI low"], row["PNMI high"]) == ("0.580", "0.620")
    assert "0.580–0.620" in to_markdown(table)


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
        write_table(table_2(paper), 2, tmp_path / folder)
    for extension in ("csv", "md", "tex"):
        one, two = (tmp_path / folder / f"table_2.{extension}" for folder in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()


def test_a_table_without_its_scores_is_refused() -> None:
    with pytest.raises(InputError, match="table 1: found no score, expected one of abx_continuous"):
        table_1([result("pnmi", 0.6)])


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
