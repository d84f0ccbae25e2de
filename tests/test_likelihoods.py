"""How log-likelihoods were made stands beside them, and with the scores made of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import sha256, write_json
from eval.likelihoods import Normalization, read_likelihoods, read_scoring
from eval.pairs import PairArguments
from eval.scores import Subject
from eval.tsc import score_tsc

SCORING = {"eos": False, "precision": "bfloat16", "long": "window", "context": 2048, "stride": 1024}
ITEMS = "fileid,id,correct\na1,a,1\na0,a,0\nb1,b,1\nb0,b,0\n"
TABLE = "fileid,log_likelihood,num_tokens\na1,-4,2\na0,-5,5\nb1,-3,3\nb0,-3,3\n"


def write_table(folder: Path) -> Path:
    table = folder / "stories.csv"
    table.write_text(TABLE)
    return table


def write_record(table: Path, **changes: Any) -> None:
    write_json(table.with_suffix(".json"), {"model": "m", **SCORING, "table_sha256": sha256(table), **changes})


def conditions(folder: Path, table: Path, normalization: Normalization) -> tuple[float, dict[str, Any]]:
    items = folder / "items.csv"
    items.write_text(ITEMS)
    subject = Subject(model="M", encoder="m")
    score_tsc(PairArguments(items, table, normalization, "stories", subject, 0, folder / "scores"))
    score = json.loads((folder / "scores" / "tsc.stories.json").read_text())
    return score["value"], score["conditions"]


def test_a_score_says_how_its_likelihoods_were_made(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    # Pair a: -2 against -1 a token, -4 against -5 in all; pair b ties.
    assert conditions(tmp_path, table, "tokens")[0] == 0.25
    value, found = conditions(tmp_path, table, "none")
    assert value == 0.75
    assert (found["normalization"], found["ties"], found["scoring"]) == ("none", 0.5, None)
    write_record(table)
    value, found = conditions(tmp_path, table, "tokens")
    assert value == 0.25
    assert (found["normalization"], found["ties"], found["scoring"]) == ("tokens", 0.5, SCORING)


def test_a_record_of_another_table_is_an_error(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    assert read_scoring(table) is None
    write_record(table)
    assert read_scoring(table) == SCORING
    table.write_text(TABLE.replace("-5", "-6"))
    with pytest.raises(InputError, match=r"stories\.json: found the record of another table, expected that of .*csv"):
        read_scoring(table)
    write_json(table.with_suffix(".json"), {"eos": True})
    with pytest.raises(InputError, match=r"stories\.json: found no key precision, long, context, stride, table_sha256"):
        read_scoring(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a1,-1,2", "line 6: a1 occurs twice"),
        ("c1,nan,2", "line 6: log_likelihood of c1 is 'nan', expected a finite number"),
        ("c1,-1,0", "line 6: num_tokens of c1 is 0, expected 1 or more"),
        ("c1,-1,1.5", "line 6: num_tokens of c1 is 1.5"),
    ],
)
def test_a_value_that_is_none_is_named(tmp_path: Path, row: str, message: str) -> None:
    table = write_table(tmp_path)
    assert read_likelihoods(table, "tokens") == {"a1": -2, "a0": -1, "b1": -1, "b0": -1}
    assert read_likelihoods(table, "none") == {"a1": -4, "a0": -5, "b1": -3, "b0": -3}
    table.write_text(TABLE + row + "\n")
    with pytest.raises(InputError, match=rf"stories\.csv, {message}"):
        read_likelihoods(table, "none")
