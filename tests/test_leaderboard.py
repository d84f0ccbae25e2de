"""The leaderboard: every experiment of a folder in one table, and no claim across evaluation sets."""

import csv
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_csv
from eval.leaderboard import leaderboard, main, read_experiments
from eval.results import Result
from eval.scores import FIELDS


def experiment(folder: Path, name: str, *results: Result, manifest: str = "speech") -> None:
    rows = ({field: getattr(result, field) for field in FIELDS} for result in results)
    write_csv(folder / name / "scores.csv", FIELDS, rows)
    (folder / name / "corpora" / "dev").mkdir(parents=True)
    (folder / name / "corpora" / "dev" / "manifest.csv").write_text(manifest)


def score(metric: str, value: float, **fields: Any) -> Result:
    common = {"source": "ours", "model": "SpidR", "encoder": "spidr", "layer": 1, "dataset": "dev"}
    return Result(**(common | {"metric": metric, "value": value} | fields))


def abx(value: float, **fields: Any) -> Result:
    return score("abx_continuous", value, condition="across", **fields)


def labels(folder: Path) -> list[tuple[str, ...]]:
    return [row.labels[:3] for row in leaderboard(read_experiments(folder)).rows]


def test_encoders_stand_at_their_best_layer_sorted_over_experiments(tmp_path: Path) -> None:
    experiment(tmp_path, "a", abx(0.2, layer=1), abx(0.1, layer=2), abx(0.3, model="B", encoder="b"))
    experiment(tmp_path, "b", abx(0.05))
    assert labels(tmp_path) == [("b", "SpidR", "1"), ("a", "SpidR", "2"), ("a", "B", "1")]
    table = leaderboard(read_experiments(tmp_path))
    assert [block for block, _ in table.blocks()] == ["a, b: dev"]
    ((_, rows),) = table.blocks()
    assert [marks[0] for _, marks in rows] == ["best", "second", None]


def test_sets_of_one_name_that_are_not_the_same_are_not_compared(tmp_path: Path) -> None:
    experiment(tmp_path, "a", abx(0.2), manifest="other speech")
    experiment(tmp_path, "b", abx(0.05))
    table = leaderboard(read_experiments(tmp_path))
    assert [block for block, _ in table.blocks()] == ["a: dev", "b: dev"]
    assert [marks[0] for _, rows in table.blocks() for _, marks in rows] == [None, None]


def test_the_mean_of_other_conditions_or_metrics_is_not_compared(tmp_path: Path) -> None:
    within = abx(0.05).model_copy(update={"condition": "within"})
    experiment(tmp_path, "one", within)
    experiment(tmp_path, "two", within.model_copy(update={"value": 0.04}), abx(0.09))
    experiment(tmp_path, "three", within, score("map_words", 0.3, condition="strict"))
    experiment(tmp_path, "four", within, abx(0.2).model_copy(update={"condition": "within_any"}))  # in no mean
    table = leaderboard(read_experiments(tmp_path))
    assert [block for block, _ in table.blocks()] == ["four, one: dev", "three: dev", "two: dev"]
    assert [marks[0] for _, rows in table.blocks() for _, marks in rows] == ["best", "best", None, None]


def test_language_models_stand_with_the_features_of_their_layer_and_toplines_last(tmp_path: Path) -> None:
    spoken: dict[str, Any] = {"slm": "opt", "corpus": "train", "hours": 4.0, "seed": 0}
    units: dict[str, Any] = {"quantizer": "kmeans50", "num_units": 50}
    phones: dict[str, Any] = {"model": "Phones", "encoder": "phones", "layer": None, "num_units": 40}
    experiment(
        tmp_path,
        "a",
        score("tsc", 0.9, **phones, **spoken),
        *(abx(value, layer=layer) for layer, value in ((1, 0.1), (2, 0.2), (3, 0.3))),
        *(score("pnmi", 0.5, layer=layer, **units) for layer in (1, 2, 3)),
        score("tsc", 0.6, layer=2, **units, **spoken),
    )
    rows = leaderboard(read_experiments(tmp_path)).rows
    assert [row.labels for row in rows] == [
        ("a", "SpidR", "1", "K-means", "50", ""),
        ("a", "SpidR", "2", "K-means", "50", "opt (train, 4 h)"),
        ("a", "Phones", "", "", "40", "opt (train, 4 h)"),
    ]
    spidr = [None if cell is None else cell.value for cell in rows[1].cells]
    assert spidr == [0.2, None, None, 0.5, None, None, None, 0.6]


def test_the_entry_point_writes_csv_and_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment(tmp_path / "results", "a", abx(0.2))
    stem = tmp_path / "results" / "leaderboard"
    monkeypatch.setattr("sys.argv", ["x", "--results", str(tmp_path / "results"), "--output", str(stem)])
    main()
    with stem.with_suffix(".csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["Experiment"], row["ABX, continuous (%)"]) == ("a", "20.00")
    assert "| a " in stem.with_suffix(".md").read_text()


def test_a_folder_without_experiments_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no experiment with scores.csv, expected one at least"):
        read_experiments(tmp_path)
