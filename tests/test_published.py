"""The paper's numbers: whole, in range, as typed here from the paper a second time, and as its text prints them."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from artifacts.files import write_json
from eval.footprint import read_footprints
from eval.rendering import Mark, Table, to_csv, to_latex, to_markdown
from eval.results import read_results
from eval.scores import FIELDS, IDENTITY
from eval.tables import TABLES
from eval.training_tables import read_hyperparameters, table_4, table_5
from spidr.settings import Recipe

REPOSITORY = Path(__file__).parent.parent
PUBLISHED = REPOSITORY / "results" / "published"
PAPER = REPOSITORY.parent / "shared" / "paper" / "spidr-paper.md"
SCORES = (1, 2, 3, 6, 7, 8)

type Row = dict[str, str]


def read(number: int) -> list[Row]:
    with (PUBLISHED / f"table_{number}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("number", "groups"),
    [
        (1, {"": 7 * 6}),
        (2, {"": 7 * 6}),
        # Of each block of four systems with four scores, sWUGGY over all pairs is not told of three.
        (3, {"50 units": 15, "100 units": 15, "200 units": 15, "500 units": 16}),
        (6, {"": 5 * 4}),
        (7, {"self-supervised": 13 * 6, "robustness loss": 7 * 6, "supervised": 6 * 6}),
        (8, {"": 4 * 4}),
    ],
)
def test_every_table_has_its_rows(number: int, groups: dict[str, int]) -> None:
    rows = read(number)
    assert list(rows[0]) == [*FIELDS, "table", "group"]
    assert Counter(row["group"] for row in rows) == groups
    assert {row["table"] for row in rows} == {str(number)}
    assert {row["source"] for row in rows} == {"published"}


@pytest.mark.parametrize("number", SCORES)
def test_no_number_is_there_twice_and_all_are_fractions(number: int) -> None:
    rows = read(number)
    assert max(Counter(tuple(row[field] for field in IDENTITY) for row in rows).values()) == 1
    results = read_results([PUBLISHED / f"table_{number}.csv"])
    assert len(results) == len(rows)
    for result in results:
        error = result.metric.startswith("abx")
        assert 0 < result.value < (0.15 if error else 0.9), result
        assert (result.low, result.high, result.n, result.seed) == (None, None, None, None)


@pytest.mark.parametrize(
    ("number", "place", "value"),
    [
        (1, ("wav2vec 2.0", "abx_continuous", "dev-other", "across"), "0.0782"),
        (1, ("data2vec 2.0", "map_words", "dev-clean", "speech-map"), "0.6938"),
        (1, ("DinoSR†", "abx_continuous", "dev-clean", "across"), "0.0522"),
        (2, ("HuBERT", "kmeans256", "pnmi"), "0.636"),
        (2, ("SpidR", "kmeans256", "swuggy_in_vocab"), "0.8233"),
        (2, ("SpidR", "codebook", "abx_units", "mean"), "0.0632"),
        (2, ("DinoSR†", "kmeans256", "tsc"), "0.6243"),
        (3, ("HuBERT", "dc-spin500-4096", "swuggy_all"), "0.7148"),
        (3, ("SpidR", "kmeans50", "sblimp"), "0.582"),
        (6, ("WavLM + Spin 256", "abx_codebook", "dev-other", "across"), "0.0582"),
        (6, ("DinoSR", "abx_codebook", "dev-clean", "within"), "0.0348"),
        (7, ("HuBERT EXTRA LARGE", "map_words", "dev-other"), "0.5464"),
        (7, ("Whisper small.en", "abx_continuous", "dev-other", "across"), "0.1181"),
        (7, ("SpidR + Spin 2048", "abx_continuous", "dev-clean", "across"), "0.0311"),
        (8, ("DinoSR + Heads", "abx_continuous", "mean"), "0.0422"),
        (8, ("DinoSR + Exp. EMA", "codebook", "pnmi"), "0.609"),
    ],
)
def test_a_number_is_the_paper_s(number: int, place: tuple[str, ...], value: str) -> None:
    (found,) = (row for row in read(number) if set(place) <= set(row.values()))
    assert Decimal(found["value"]) == Decimal(value)


def test_layers_and_names_agree_between_the_tables() -> None:
    scores = [row for number in SCORES for row in read(number)]
    for model in {row["model"] for row in scores}:
        rows = [row for row in scores if row["model"] == model]
        assert len({row["encoder"] for row in rows}) == 1, model
        assert len({row["layer"] for row in rows} - {""}) <= 1, model


def test_what_two_tables_print_is_the_same() -> None:
    """Table 7 repeats table 1; the means of table 8 are over the numbers of table 1, and its units are of table 2."""
    seven = {tuple(row[field] for field in IDENTITY): row["value"] for row in read(7)}
    assert all(seven[tuple(row[field] for field in IDENTITY)] == row["value"] for row in read(1))
    for metric, four in (("abx_continuous", 4), ("map_words", 2)):
        parts = [Decimal(row["value"]) for row in read(1) if (row["model"], row["metric"]) == ("DinoSR†", metric)]
        (mean,) = (Decimal(r["value"]) for r in read(8) if (r["model"], r["metric"]) == ("DinoSR†", metric))
        assert len(parts) == four
        assert abs(sum(parts) / four - mean) <= Decimal("0.00005")
    units = {(r["model"], r["metric"]): r["value"] for r in read(2) if r["quantizer"] == "codebook"}
    for row in read(8):
        if row["quantizer"] and (row["model"], row["metric"]) in units:
            assert row["value"] == units[row["model"], row["metric"]]


def rendered(number: int) -> Table:
    """A table made of all the published scores, as an experiment with them would."""
    return TABLES[number](read_results([PUBLISHED / f"table_{n}.csv" for n in SCORES], by_table=True))


@pytest.mark.parametrize("number", SCORES)
def test_a_table_made_of_the_published_numbers_shows_those_of_the_paper_s_table_and_no_others(number: int) -> None:
    rows = list(csv.reader(to_csv(rendered(number)).splitlines()))
    width = 1 + len(rendered(number).labels)
    values = [[Decimal(cell) for cell in row[width:] if cell] for row in rows[1:]]
    assert values == whole(number)


def test_blocks_labels_and_order_are_the_paper_s() -> None:
    blocks = {n: [(block, len(rows)) for block, rows in rendered(n).blocks()] for n in (1, 3, 7)}
    assert blocks[1] == [("", 7)]
    assert blocks[3] == [("50 units", 4), ("100 units", 4), ("200 units", 4), ("500 units", 4)]
    assert blocks[7] == [("self-supervised", 13), ("robustness loss", 7), ("supervised", 6)]
    assert [row.labels for row in rendered(1).rows[-2:]] == [("DinoSR†", "5"), ("SpidR", "6")]
    assert rendered(2).rows[0].labels == ("HuBERT", "11", "K-means", "256")
    assert [row.labels[:2] for row in rendered(3).rows[:4]] == [
        *(("HuBERT", "K-means"), ("HuBERT", "Spin"), ("HuBERT", "DC-Spin"), ("SpidR", "K-means"))
    ]
    assert [row.labels[1] for row in rendered(6).rows] == ["5", "5", "", "", "6"]
    assert [row.labels for row in rendered(8).rows] == [
        *(("DinoSR†", "5"), ("DinoSR + Heads", "7"), ("DinoSR + Exp. EMA", "6"), ("SpidR", "6"))
    ]


OTHERWISE: dict[int, dict[str, tuple[Mark, Mark]]] = {
    1: {"45.86": ("second", None)},
    2: {},
    3: {"69.21": ("second", None), "69.64": (None, "second")},
    6: {"3.80": ("second", None), "3.48": (None, "second")},
    7: {
        **{"68.99": ("best", "second"), "69.38": ("second", "best")},
        **{"68.70": ("second", None), "71.57": (None, "second"), "63.03": (None, "second")},
    },
}
"""Where the paper marks a score otherwise than by its value: the score, its mark there and the one by value."""


@pytest.mark.parametrize("number", OTHERWISE)
def test_marks_are_by_value_where_the_paper_s_are_not(number: int) -> None:
    for score, (_, by_value) in OTHERWISE[number].items():
        assert by_value in marks_by_value(number)[score]


def marks_by_value(number: int) -> dict[str, list[Mark]]:
    """Every printed score of a rendered table, and its marks wherever it stands."""
    table = rendered(number)
    found: dict[str, list[Mark]] = {}
    for _, rows in table.blocks():
        for row, marks in rows:
            for column, cell, mark in zip(table.columns, row.cells, marks, strict=True):
                if cell:
                    found.setdefault(column.text(cell), []).append(mark)
    return found


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper does not lie beside the checkout")
@pytest.mark.parametrize("number", OTHERWISE)
def test_the_paper_marks_as_we_do_but_for_the_places_listed(number: int) -> None:
    text = PAPER.read_text(encoding="utf-8").split(f"\nTable {number}: ")[1].split("\n\n")[1]
    theirs: dict[str, list[Mark]] = {}
    for mark, score in re.findall(r"(?:<(b|u)>)?(\b\d+\.\d\d\d?\b)(?:</[bu]>)?", text):
        theirs.setdefault(score, []).append({"b": "best", "u": "second", "": None}[mark])
    ours = marks_by_value(number)
    assert ours.keys() == theirs.keys()
    differing = {score: (theirs[score], ours[score]) for score in ours if ours[score] != theirs[score]}
    assert differing.keys() == OTHERWISE[number].keys()
    for score, (paper, by_value) in OTHERWISE[number].items():
        assert paper in differing[score][0]
        assert by_value in differing[score][1]


def test_table_4_shows_the_published_footprints() -> None:
    table = table_4({"published": read_footprints(PUBLISHED / "table_4.csv")})
    assert table.rows[0].labels == ("HuBERT", "A100 × 32", "650k", "62", "1984")
    assert table.rows[-1].labels == ("SpidR and DinoSR (our reimplem.)", "A100 × 16", "400k", "23", "369")
    assert len(table.rows) == 7
    assert r"HuBERT & A100 $\times$ 32 & 650k & 62 & 1984 \\" in to_latex(table)
    assert "cmidrule" not in to_latex(table)


def test_table_5_of_the_base_recipe_is_the_paper_s(tmp_path: Path) -> None:
    """SpidR Base is the default of every recipe, so its own table has to say what the paper's says."""
    config = tmp_path / "config.json"
    write_json(config, {"provenance": {"settings": Recipe().model_dump(mode="json")}})
    ours, theirs = read_hyperparameters(config), read_hyperparameters(PUBLISHED / "table_5.csv")
    assert ours == theirs
    table = table_5({"published": theirs, "SpidR": ours})
    assert [(block, len(rows)) for block, rows in table.blocks()] == [
        *(("Model", 24), ("Optimizer", 9), ("Data", 6), ("Masking", 3))
    ]
    assert "| Peak learning rate                    | 5e-4" in to_markdown(table)


def test_pretraining_s_cost_and_hyperparameters_are_the_paper_s() -> None:
    cost = {row["model"]: row for row in read(4)}
    assert len(cost) == 7
    assert cost["data2vec 2.0"] == {
        **{"model": "data2vec 2.0", "gpu": "A100", "num_gpus": "16", "steps": "50000"},
        **{"pretraining_time_h": "43", "gpu_hours": "688"},
    }
    for row in cost.values():
        product = int(row["num_gpus"]) * int(row["pretraining_time_h"])
        assert abs(product - int(row["gpu_hours"])) <= 1, row
    settings = {(row["section"], row["parameter"]): row["value"] for row in read(5)}
    assert Counter(section for section, _ in settings) == {"Model": 24, "Optimizer": 9, "Data": 6, "Masking": 3}
    assert settings["Optimizer", "Peak learning rate"] == "5e-4"
    assert settings["Data", "Max. samples in batch"] == "3800000"
    assert settings["Model", "Decay timescale T"] == "10000"


def lines_of(number: int) -> Iterator[list[str]]:
    """Cells of the rows below a table's caption, without its marks."""
    text = PAPER.read_text(encoding="utf-8").split(f"\nTable {number}: ")[1]
    for line in text.split("\n\n")[1].splitlines():
        yield [re.sub(r"</?[bu]>", "", cell).strip() for cell in line.split("\t")]


def printed(number: int) -> list[list[Decimal]]:
    """The scores of each row of a table of scores, as its text prints them."""
    score = re.compile(r"\d+\.\d\d\d?")
    rows = ([Decimal(cell) for cell in line if score.fullmatch(cell)] for line in lines_of(number))
    return [row for row in rows if row]


def whole(number: int) -> list[list[Decimal]]:
    """The same of ours: the scores of each system in the order of the file."""
    systems: dict[tuple[str, ...], list[Decimal]] = {}
    for row in read(number):
        unit = row["quantizer"] if number in (2, 3) else ""
        identity = (*(row[field] for field in ("group", "model", "layer")), unit)
        value = Decimal(row["value"])
        systems.setdefault(identity, []).append(value if row["metric"] == "pnmi" else 100 * value)
    return list(systems.values())


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper does not lie beside the checkout")
@pytest.mark.parametrize("number", SCORES)
def test_the_paper_s_text_prints_these_numbers_and_no_others(number: int) -> None:
    assert whole(number) == printed(number)


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper does not lie beside the checkout")
def test_the_paper_s_text_prints_these_parameters_and_no_others() -> None:
    costs = [" ".join(line[1:]) for line in lines_of(4)][1:]
    ours = [
        f"{r['gpu']} $\\times$ {r['num_gpus']} {int(r['steps']) // 1000}k {r['pretraining_time_h']} hr {r['gpu_hours']}"
        for r in read(4)
    ]
    assert ours == costs

    theirs = [(line[k], line[k + 1]) for line in list(lines_of(5))[1:] for k in (0, 2) if line[k + 1]]
    settings = read(5)
    assert len(theirs) == len(settings)
    formulas = ("[", "exp")
    assert Counter(plain(value) for _, value in theirs if not any(sign in value for sign in formulas)) == Counter(
        row["value"] for row in settings if " x " not in row["value"] and "exp" not in row["value"]
    )


def plain(value: str) -> str:
    """A parameter's value as a program takes it: 5% is 0.05, 12 000 is 12000, powers of ten are written with an e."""
    if value.endswith("%"):
        return str(Decimal(value[:-1]) / 100)
    if power := re.fullmatch(r"\$(\d) \\times 10\^\{(-\d)\}\$", value):
        return f"{power[1]}e{power[2]}"
    return re.sub(r"(?<=\d) (?=\d{3})", "", value)
