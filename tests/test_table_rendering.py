"""What tables print: marks, seeds, intervals, and the three forms."""

import re
from pathlib import Path

import pytest
from score_rows import read, result

from eval.rendering import marks, to_csv, to_latex, to_markdown
from eval.results import Result, estimate
from eval.tables import write_table
from eval.unit_tables import table_2

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
