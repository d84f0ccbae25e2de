"""Score files and their collection."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import InputError
from eval.collect import collect
from eval.results import training_label
from eval.scores import FIELDS, Subject, parse_names, parse_subject, read_scores, with_training, write_score

SPIDR = Subject(model="SpidR", encoder="spidr", layer=6, quantizer="kmeans256", num_units=256)


def write(folder: Path, subject: Subject = SPIDR, **changes: object) -> Path:
    given: dict = {
        "metric": "pnmi",
        "dataset": "dev-clean",
        "value": 0.6,
        "n": 10,
        "low": 0.5,
        "high": 0.7,
        "conditions": {"shift": 0},
        "items": (("unit", "count"), [{"unit": 1, "count": 2}]),
        "provenance": {"seed": 0},
    }
    return write_score(folder, subject, **given | changes)


def test_a_score_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert path == tmp_path / "pnmi.dev-clean.json"
    assert path.with_suffix(".csv").read_text() == "unit,count\n1,2\n"
    (score,) = read_scores([path])
    assert tuple(score)[: len(FIELDS)] == FIELDS
    assert (score["source"], score["layer"], score["slm"], score["value"]) == ("ours", 6, None, 0.6)
    assert score["conditions"] == {"shift": 0}


def test_the_condition_is_part_of_the_name(tmp_path: Path) -> None:
    assert write(tmp_path, metric="abx_units", condition="across").name == "abx_units.dev-clean.across.json"


@pytest.mark.parametrize("dataset", ["dev.clean", "dev/clean", "dev--clean", "-dev", ""])
def test_a_name_that_would_not_be_unique_is_refused(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(InputError, match="letters, digits, _ and single -"):
        write(tmp_path, dataset=dataset)


def test_a_score_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write(tmp_path, value=float("nan"))
    assert not (tmp_path / "pnmi.dev-clean.json").exists()


def test_the_same_score_twice_is_an_error_naming_both_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    with pytest.raises(InputError, match=r"b/pnmi.*the same score as .*a/pnmi"):
        read_scores([first, second])


def test_a_score_without_a_field_is_an_error_naming_file_and_field(tmp_path: Path) -> None:
    path = write(tmp_path)
    record = json.loads(path.read_text())
    del record["metric"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"pnmi\.dev-clean\.json: metric: missing"):
        read_scores([path])


def test_the_table_of_scores_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a", metric="swuggy_all"),
        write(tmp_path / "b", SPIDR.model_copy(update={"layer": None})),
        write(tmp_path / "c", SPIDR.model_copy(update={"layer": 10})),
        write(tmp_path / "d"),
    ]
    rows = collect(paths)
    assert rows == collect(reversed(paths))
    assert [row["layer"] for row in rows] == [None, 6, 6, 10]


def test_scores_are_collected_in_one_table(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a"), write(tmp_path / "b", metric="bitrate", low=None, high=None)]
    output = tmp_path / "scores.csv"
    subprocess.run([sys.executable, "-m", "eval.collect", "--scores", *paths, "--output", output], check=True)
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == FIELDS
    assert [(row["metric"], row["low"]) for row in rows] == [("bitrate", ""), ("pnmi", "0.5")]


def test_a_model_is_called_as_the_command_line_says_else_as_its_score_does_else_by_its_encoder(tmp_path: Path) -> None:
    subjects = [
        Subject(model="SpidR", encoder="spidr"),
        Subject(model="DinoSR", encoder="dinosr"),
        parse_subject('{"encoder": "mfcc"}'),
    ]
    paths = [write(tmp_path / subject.encoder, subject) for subject in subjects]
    rows = collect(paths, parse_names(["spidr=SpidR, 2 = 1"]))
    assert [row["model"] for row in rows] == ["DinoSR", "SpidR, 2 = 1", "mfcc"]
    with pytest.raises(InputError, match="--names: found 'SpidR', expected encoder=name"):
        parse_names(["SpidR"])


def test_the_training_summary_fills_what_the_subject_does_not_say(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"slm": "opt", "corpus": "train", "hours": 6.5, "seed": 2, "steps": 100}))
    subject = with_training(SPIDR.model_copy(update={"corpus": "ll6k"}), summary)
    assert (subject.slm, subject.corpus, subject.hours, subject.seed) == ("opt", "ll6k", 6.5, 2)
    assert subject.encoder == "spidr"
    summary.write_text(json.dumps({"slm": "opt"}))
    with pytest.raises(InputError, match=r"summary\.json: corpus, hours, seed: missing"):
        with_training(SPIDR, summary)


def test_a_language_model_is_called_by_what_is_known_of_its_training() -> None:
    assert training_label("opt", "train", 4.7) == "opt (train, 4.7 h)"
    assert training_label("opt", None, 1000.0) == "opt (1000 h)"
    assert training_label("opt", "train", None) == "opt (train)"
    assert training_label("opt", None, None) == "opt"
    assert training_label(None, "train", 4.7) == ""
